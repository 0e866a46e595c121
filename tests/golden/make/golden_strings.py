"""The texts whose token ids tests/golden/tokenizers keeps; each is there for a way to go wrong."""

PLAIN = [
    "",
    " ",
    "a",
    "Hello world",
    " Hello world",
    "Hello  world",
    "Hello world ",
    "  leading and trailing  ",
    "The quick brown fox jumps over the lazy dog.",
    "THE QUICK BROWN FOX",
    "Alice was beginning to get very tired of sitting by her sister on the bank,",
]
WHITESPACE = [
    "   ",
    "\n",
    "\n\n",
    " \n",
    "\n ",
    "\t",
    "a\tb\t\tc",
    "line one\nline two\r\nline three\r",
    "ends with a newline\n",
    "three\n\n\nbreaks",
    "a   b    c     d",
    "spaces before a break   \n   and after",
    "non\u00a0breaking\u2003em\u200bzero\u3000ideographic",
    "\u2028line separator",
    "tab\t \tmixed \t run",
    " " * 40 + "x",
]
NUMBERS = [
    "7",
    "42",
    "1234567890",
    "3.14159 and -2e10",
    "12 345 678",
    "1,000,000.00",
    "v2.0.1-rc3",
    "x86_64 h264 b2b",
    "٣٤٥ ๑๒๓ ½ ² Ⅷ",
]
CONTRACTIONS = [
    "I'm you're he's we've they'd I'll can't",
    "I'M YOU'RE HE'S WE'VE THEY'D I'LL CAN'T",
    "it’s a typographic apostrophe",
    "rock 'n' roll, '90s, 's",
]
PUNCTUATION = [
    "Wait... what?! No -- really?",
    "(a) [b] {c} <d> \"e\" 'f' `g`",
    "user@example.com, https://example.com/a?b=c&d=%20#e",
    "!!!???...,,,;;;:::",
    "$5 €6 £7 100% #tag @name a&b a*b a/b a\\b a|b a~b a^b",
    "_under_score_ and -dash-",
]
CODE = [
    "for (int i = 0; i < 10; i++) {\n    sum += a[i] * b[i];\n}\n",
    "def f(x):\n\treturn x ** 2  # squared\n",
    "if (a != b && c <= d || !e) { return a ?? b; }",
    "<div class=\"x\">\n  <p>text</p>\n</div>",
    "{\"a\": [1, 2.5, -3e-4], \"b\": null, \"c\": \"\\u00e9\\n\"}",
    "camelCase PascalCase snake_case SCREAMING_CASE kebab-case",
    "0x1F 0b1010 1_000 1e-9 'c' \"s\"",
]
LANGUAGES = [
    "Straße, Mädchen, größer",
    "L'été où il a mangé des crêpes; l'œuvre",
    "¿Qué pasó, niño? ¡Adiós!",
    "Быстрая лиса прыгает",
    "Η γρήγορη αλεπού",
    "素早い茶色の狐、こんにちは。カタカナ",
    "你好,世界!我们去公园。",
    "안녕하세요 세계",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "مرحبا بالعالم",
    "שלום עולם",
    "İstanbul ışık ǅ ß ﬁ",
    "Tiếng Việt",
]
UNICODE = [
    "😀",
    "hi😀there 🎉🎉",
    "👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 ❤️",
    "e\u0301 and \u00e9, n\u0303 and \u00f1, A\u030a",
    "Z\u0351\u036ba\u0363\u0368l\u0343g\u0349o\u0321",
    "\u1100\u1161\u11a8 \uac01",
    "\ufb01 \u2460 \uff21\uff22\uff23 \u00bd \u2122",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙𝟚 𐍈",
    "\ufeffbyte order mark",
    "bidi \u202eabc\u202c soft\u00adhyphen",
    "\u0001\u001b[0m\u007f control",
    "rare \u0004\u0013 controls and planes \U00040000 \U000a0000",  # SmolLM2 lacks these bytes
    "replacement \ufffd, private \ue000, last \U0010fffd",
]
LONG = [
    "ab" * 60,
    "a" * 100,
    "Once upon a time, in a small house by the river, there lived a girl named Lily. "
    "She had a red ball, 2 cats and 15 books; \"Where's my ball?\" she asked.\n\n"
    "\"Under the bed!\" said her mother. Lily looked... and there it was!",
]

TEXTS = (
    PLAIN + WHITESPACE + NUMBERS + CONTRACTIONS + PUNCTUATION + CODE + LANGUAGES + UNICODE + LONG
)


def texts_with(special):
    """Texts around one special token: at the ends, between words, doubled, broken."""
    return [
        special,
        f"{special}Hello",
        f"Hello{special}",
        f"Hello{special} world",
        f"Hello {special} world",
        f"{special}{special}",
        f"{special[:-1]} {special[1:]}",
        f"a\n{special}\nb",
    ]


CHATS = [
    [{"role": "user", "content": "Hello!"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why is it blue?"}],
    [
        {"role": "user", "content": "Count to 3."},
        {"role": "assistant", "content": "1, 2, 3"},
        {"role": "user", "content": "  Go on.\n"},
    ],
]
