// Heat maps of attention weights, on a canvas, with the tokens that a pointer or a key picks.

/** Pixels of a token each way: enough for edges that stay sharp at any size. */
const cell = 16;

/** Colour of a weight: the variant's own, more or less. */
export function drawMap(canvas: HTMLCanvasElement, weights: Float32Array, tokens: number,
  colour: string): void {
  const context = canvas.getContext('2d');
  if (context === null) return;
  canvas.width = canvas.height = tokens * cell;
  context.fillStyle = colour;
  for (let i = 0; i < weights.length; i += 1) {
    // The square root shows small weights too; a row of n tokens has 1/n on the average.
    context.globalAlpha = Math.sqrt(Math.max(0, Math.min(1, weights[i] ?? 0)));
    context.fillRect(i % tokens * cell, Math.floor(i / tokens) * cell, cell, cell);
  }
}

/** ‖S − Sᵀ‖ / ‖S + Sᵀ‖ in Frobenius norms: 0 for a symmetric matrix, 1 for one whose two halves
 * have nothing in common. */
export function asymmetry(scores: Float32Array, tokens: number): number {
  let apart = 0;
  let together = 0;
  for (let i = 0; i < tokens; i += 1) {
    for (let j = 0; j < i; j += 1) {
      const a = scores[i * tokens + j] ?? 0;
      const b = scores[j * tokens + i] ?? 0;
      apart += (a - b) ** 2;
      together += (a + b) ** 2;
    }
  }
  return together === 0 ? 0 : Math.sqrt(apart / together);
}

/** The mean of the diagonal: what a token keeps for itself. The first one has no choice. */
export function ownShare(weights: Float32Array, tokens: number): number {
  if (tokens < 2) return 1;
  let sum = 0;
  for (let i = 1; i < tokens; i += 1) sum += weights[i * tokens + i] ?? 0;
  return sum / (tokens - 1);
}
