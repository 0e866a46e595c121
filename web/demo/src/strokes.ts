// Digits as strokes, for those who do not draw: points in a square of one unit, y downwards.
type Stroke = readonly (readonly [x: number, y: number])[];

const arc = (x: number, y: number, rx: number, ry: number, from: number, to: number): Stroke =>
  Array.from({ length: 25 }, (_, i) => {
    const angle = (from + (to - from) * i / 24) * Math.PI / 180;
    return [x + rx * Math.cos(angle), y + ry * Math.sin(angle)] as const;
  });

export const digitStrokes: readonly (readonly Stroke[])[] = [
  [arc(0.5, 0.5, 0.22, 0.32, 0, 360)],
  [[[0.42, 0.3], [0.52, 0.18], [0.52, 0.82]]],
  [[...arc(0.5, 0.36, 0.2, 0.18, 190, 380), [0.3, 0.8], [0.72, 0.8]]],
  [[...arc(0.48, 0.34, 0.2, 0.16, 200, 450)], [...arc(0.48, 0.65, 0.22, 0.16, -90, 160)]],
  [[[0.36, 0.2], [0.3, 0.55], [0.7, 0.55]], [[0.62, 0.25], [0.6, 0.84]]],
  [[[0.68, 0.2], [0.36, 0.2], [0.34, 0.46], ...arc(0.48, 0.62, 0.2, 0.19, -110, 150)]],
  [[[0.6, 0.17], [0.42, 0.4], ...arc(0.5, 0.64, 0.18, 0.18, 190, 550)]],
  [[[0.3, 0.22], [0.7, 0.22], [0.45, 0.82]]],
  [arc(0.5, 0.34, 0.17, 0.16, 90, 450), arc(0.5, 0.66, 0.19, 0.16, -90, 270)],
  [[...arc(0.5, 0.36, 0.18, 0.17, 0, 360), [0.64, 0.82]]],
];
