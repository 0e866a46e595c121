// A constraint as the worker is told it: plain data.

export const grammarKinds = ['json', 'regex', 'lark'] as const;
export type GrammarKind = (typeof grammarKinds)[number];

/** json: a schema's text. regex: a JavaScript expression of the whole text, with its flags. */
export interface PlainGrammar {
  kind: GrammarKind;
  text: string;
  flags?: string | undefined;
}

/** What a model thinks between two tags. */
interface Thought {
  closer: string;
  /** Tokens that close them where they are ended. */
  ending: readonly number[];
  /** Tokens that they may take, tags aside; undefined: any number. */
  budget?: number | undefined;
}

export interface LazyPart {
  /** '': none; the part is one that the text starts with. */
  trigger: string;
  /** Neither this nor a thought: the trigger may not come. */
  grammar?: PlainGrammar | undefined;
  thought?: Thought | undefined;
  /** It is one at the beginning of the text only, white space aside. */
  isFirst?: boolean | undefined;
}

/** Free text, in which each trigger begins a grammar; where that is over, the text is free. */
export interface LazyGrammar {
  kind: 'lazy';
  parts: readonly LazyPart[];
  /** Parts with which the text starts, by their places in the list, one behind the other: the
   * first one's trigger has come before. Behind thoughts the next one's is written first. */
  starts?: readonly number[] | undefined;
  /** Tokens of the second start's trigger. */
  opening?: readonly number[] | undefined;
  /** After the first grammar that is over the text ends. */
  once?: boolean | undefined;
}

export type Grammar = PlainGrammar | LazyGrammar;
