// A constraint as the worker is told it: plain data.

export const grammarKinds = ['json', 'regex', 'lark'] as const;
export type GrammarKind = (typeof grammarKinds)[number];

/** json: a schema's text. regex: a JavaScript expression of the whole text, with its flags. */
export interface PlainGrammar {
  kind: GrammarKind;
  text: string;
  flags?: string | undefined;
}

export interface LazyPart {
  trigger: string;
  /** undefined: the trigger may not come. */
  grammar?: PlainGrammar | undefined;
  /** It is one at the beginning of the text only, white space aside. */
  isFirst?: boolean | undefined;
}

/** Free text, in which each trigger begins a grammar; where that is over, the text is free. */
export interface LazyGrammar {
  kind: 'lazy';
  parts: readonly LazyPart[];
  /** The first part's trigger has come before: its grammar is on from the beginning. */
  starts?: boolean | undefined;
  /** After the first grammar that is over the text ends. */
  once?: boolean | undefined;
}

export type Grammar = PlainGrammar | LazyGrammar;
