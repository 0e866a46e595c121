"""Chat templates rendered by Python's Jinja, set up as Hugging Face's transformers does:

    python tests/bench/templates.py FOLDER >expected.jsonl      (needs jinja2)

FOLDER has *.jinja. A line of the output is one template with one conversation: what it was given
and the text, or the error. templates.mjs compares them with this package.
"""

import datetime
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a city.",
    "parameters": {"type": "object", "required": ["city"], "properties": {
        "city": {"type": "string", "description": "Its name"},
        "unit": {"type": "string", "enum": ["C", "F"]}}}}}
ADD = {"type": "function", "function": {
    "name": "add", "description": "Adds two numbers; \"a\" & b.",
    "parameters": {"type": "object", "required": ["a", "b"], "properties": {
        "a": {"type": "number"}, "b": {"type": "number"}}}}}


def system(text):
    return {"role": "system", "content": text}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, *calls):
    message = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {"type": "function", "id": f"call{i}0000000"[:9],
             "function": {"name": name, "arguments": arguments}}
            for i, (name, arguments) in enumerate(calls)]
    return message


def result(text, index=0, name="get_weather"):
    return {"role": "tool", "content": text, "tool_call_id": f"call{index}0000000"[:9],
            "name": name}


CALL = ("get_weather", {"city": "Zürich"})
CASES = {
    "system and user": {"messages": [system("Be brief."), user("Hello")]},
    "three turns": {"messages": [user("Hi"), assistant("Hello!"), user("How are you?"),
                                 assistant("Well."), user("Good.")]},
    "empty system": {"messages": [system(""), user("Hello")]},
    "no answer follows": {"messages": [user("Hi"), assistant("Hello!")],
                          "add_generation_prompt": False},
    "one tool": {"messages": [system("Be brief."), user("Weather?")], "tools": [WEATHER]},
    "two tools": {"messages": [user("Weather and sum?")], "tools": [WEATHER, ADD]},
    "call and result": {"messages": [user("Weather?"), assistant("", CALL), result("{\"t\": 21}")],
                        "tools": [WEATHER]},
    "two calls": {"messages": [user("Both?"), assistant("", CALL, ("add", {"a": 1, "b": 2.5})),
                               result("21"), result("3.5", 1, "add")], "tools": [WEATHER, ADD]},
    "text and call": {"messages": [user("Weather?"), assistant("I look.", CALL), result("21"),
                                   assistant("It is 21."), user("Thanks")], "tools": [WEATHER]},
    "result without text": {"messages": [user("Weather?"), assistant("", CALL), result("")],
                            "tools": [WEATHER]},
    "call without arguments": {"messages": [user("Weather?"), assistant("", ("get_weather", {})),
                                            result("21")], "tools": [WEATHER]},
    "thinking on": {"messages": [user("Hi")], "enable_thinking": True},
    "thinking off": {"messages": [user("Hi")], "enable_thinking": False},
    "thoughts of the past": {"messages": [user("Hi"), {
        "role": "assistant", "content": "Hello!", "reasoning_content": "A greeting."},
        user("How are you?")]},
    "thoughts in the text": {"messages": [user("Hi"),
                                          assistant("<think>\nHm.\n</think>\n\nHello!"),
                                          user("How are you?")]},
}


class Generation(jinja2.ext.Extension):
    """{% generation %} marks what the assistant wrote, and prints it."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_call"), [], [], body).set_lineno(line)

    def _call(self, caller):
        return caller()


def refuse(message):
    raise jinja2.exceptions.TemplateError(message)


def environment():
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True,
        extensions=[Generation, jinja2.ext.loopcontrols])
    made.filters["tojson"] = lambda x, ensure_ascii=False, indent=None, separators=None, \
        sort_keys=False: json.dumps(x, ensure_ascii=ensure_ascii, indent=indent,
                                    separators=separators, sort_keys=sort_keys)
    made.globals["raise_exception"] = refuse
    made.globals["strftime_now"] = datetime.datetime(2026, 11, 27, 12, 0).strftime
    return made


def render(source, case):
    given = {"add_generation_prompt": True, "bos_token": "<bos>", "eos_token": "<eos>", **case}
    try:
        return {"text": environment().from_string(source).render(**given)}
    except Exception as error:  # a template may do anything
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.jinja")):
        source = path.read_bytes().decode()
        for name, case in CASES.items():
            for kind, text in (("", source), (" (CRLF)", source.replace("\n", "\r\n"))):
                if kind and name != "system and user":
                    continue
                print(json.dumps({"template": path.name, "case": name + kind, "given": case,
                                  "crlf": bool(kind), **render(text, case)}, ensure_ascii=False))


main()
