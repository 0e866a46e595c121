// Where a chat's window forgets when it is full: between two turns, not inside of one.

/** Turns begin at these positions; the window keeps its first `keep` tokens. Gives the one nearest
 * to the middle of the rest; 0: none that would free an eighth of it. */
export function cutBetween(turns: readonly number[], keep: number, window: number): number {
  const room = window - keep;
  const [nearest = 0] = turns.filter((at) => at - keep >= room / 8)
    .sort((a, b) => Math.abs(a - keep - room / 2) - Math.abs(b - keep - room / 2));
  return nearest;
}

/** Positions after so many tokens behind the kept ones were forgotten. */
export function shifted(positions: readonly number[], keep: number, forgotten: number): number[] {
  return positions.map((at) => (at <= keep ? at : Math.max(keep, at - forgotten)));
}
