// A constraint as the worker is told it: plain data.

export const grammarKinds = ['json', 'regex', 'lark'] as const;
export type GrammarKind = (typeof grammarKinds)[number];

/** json: a schema's text. regex: a JavaScript expression of the whole text, with its flags. */
export interface PlainGrammar {
  kind: GrammarKind;
  text: string;
  flags?: string | undefined;
}

/** Free text, in which each trigger begins a grammar; where that is over, the text is free. */
export interface LazyGrammar {
  kind: 'lazy';
  parts: readonly { trigger: string; grammar: PlainGrammar }[];
}

export type Grammar = PlainGrammar | LazyGrammar;
