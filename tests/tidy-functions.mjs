// Finds the functions of a source file and how many lines each has, from its layout alone.
//
// Our code is laid out by rule: a block ends with a closing brace in the column in which the
// statement that opened it began, and Python's with the first line that is not further in. That is
// all that is used here; nothing is parsed.

const indentOf = (line) => /^ */.exec(line)[0].length;

/** C: a definition starts in the first column and ends with the next brace in that column. */
function functionsOfC(lines) {
  const found = [];
  for (let end = 0, start = -1; end < lines.length; end += 1) {
    const line = lines[end];
    if (/^}/.test(line)) {
      const header = start < 0 ? '' : lines.slice(start, end).join(' ');
      const name = /^[^={;]*?(\w+)\s*\([^;]*?\)\s*\{/.exec(header)?.[1];
      if (name) found.push({ line: start + 1, name, length: end - start + 1 });
      start = -1;
    } else if (/^[A-Za-z_]/.test(line) && (start < 0 || /[;}]\s*$/.test(lines[end - 1]))) {
      start = end;
    }
  }
  return found;
}

const control = /^\s*(?:}\s*)?(?:if|else|for|while|switch|do|try|catch|finally|with|return)\b/;
const container = new RegExp('^\\s*(?:export\\s+)?(?:default\\s+)?(?:abstract\\s+|declare\\s+)*' +
  '(?:class|interface|enum|namespace|module)\\b');
const suite = /^\s*(?:describe|suite)\(/;
const opensFunction = new RegExp('\\bfunction\\b.*\\{$|=>\\s*\\{$|' +
  '^\\s*(?:[\\w$#*]+\\s+)*[*#]?[\\w$]+\\s*(?:<.*>)?\\(.*\\)[^=]*\\{$');

function nameOf(header) {
  return /function\*?\s+([\w$]+)/.exec(header)?.[1] ??
    /([\w$#]+)\s*(?:<[^(]*>)?(?:=|:|\()/.exec(header)?.[1] ?? 'function';
}

/** JavaScript and TypeScript: a line that ends with a brace and whose statement is a function. */
function functionsOfScript(lines) {
  const found = [];
  lines.forEach((line, index) => {
    if (!/\{$/.test(line)) return;
    let start = index;
    const indent = indentOf(line);
    // The parameters may stand on lines of their own, further in, before "): Type {".
    if (/^\s*\)/.test(line)) {
      do start -= 1; while (start > 0 && (lines[start] === '' || indentOf(lines[start]) > indent));
    }
    const header = lines.slice(start, index + 1).map((part) => part.trim()).join(' ');
    if (control.test(header) || container.test(header) || suite.test(header)) return;
    if (!opensFunction.test(header)) return;
    const end = lines.findIndex((other, at) => at > index && indentOf(other) <= indent &&
      /^\s*[}\])]/.test(other));
    if (end > 0) found.push({ line: start + 1, name: nameOf(header), length: end - start + 1 });
  });
  return found;
}

function functionsOfPython(lines) {
  const found = [];
  lines.forEach((line, index) => {
    const name = /^\s*(?:async\s+)?def\s+(\w+)/.exec(line)?.[1];
    if (!name) return;
    const indent = indentOf(line);
    let last = index;
    for (let at = index + 1; at < lines.length; at += 1) {
      if (lines[at].trim() === '') continue;
      if (indentOf(lines[at]) <= indent && !/^\s*\)/.test(lines[at])) break;
      last = at;
    }
    found.push({ line: index + 1, name, length: last - index + 1 });
  });
  return found;
}

/** Functions of a file as { line, name, length }, counted from its first line to its brace. */
export function functionsOf({ path, lines }) {
  if (/\.[ch]$/.test(path)) return functionsOfC(lines);
  if (path.endsWith('.py')) return functionsOfPython(lines);
  return functionsOfScript(lines);
}
