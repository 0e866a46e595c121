// Lists the examples and runs the one that the address names.
const names = ['story', 'json', 'many', 'suspend', 'pack'];
const list = document.getElementById('list');
const output = document.getElementById('output');
const state = document.getElementById('state');

for (const name of names) {
  const link = document.createElement('a');
  link.href = `?name=${name}`;
  link.textContent = name;
  list.append(link, ' ');
}

const name = new URLSearchParams(location.search).get('name');
if (names.includes(name)) {
  try {
    const { run } = await import(`./${name}.js`);
    await run((text) => output.append(text));
    state.textContent = 'done';
  } catch (error) {
    state.textContent = `failed: ${error}\n${error.stack}`;
  }
}
