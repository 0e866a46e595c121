// For TypeDoc: a page is called as its first heading says, and a module as it is imported.
// (A title above the text of each page would be shown by everything else that reads it.)

/** Sources of the package's subpaths, as package.json has them. */
const modules = {
  'onekv': 'onekv', 'engine-entry': 'onekv/engine', 'bench': 'onekv/bench',
  'facades/openai': 'onekv/openai', 'facades/handler': 'onekv/handler',
  'facades/ai-sdk': 'onekv/ai-sdk', 'facades/prompt-api': 'onekv/prompt-api',
};

const firstHeading = ({ content }) =>
  /^# (.+)$/m.exec(content.map(({ text }) => text).join(''))?.[1];

export function load(app) {
  app.converter.on('createDocument', (_, page) => {
    page.name = firstHeading(page)?.replace(/:.*$/, '') ?? page.name;
  });
  app.converter.on('createDeclaration', (_, declared) => {
    if (declared.parent?.isProject()) declared.name = modules[declared.name] ?? declared.name;
  });
}
