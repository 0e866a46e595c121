// What of JSON Schema's language the published schemas use, checked.
import assert from 'node:assert/strict';

/** Fails with the path of what does not fit. */
export function check(value, rule, path = 'report') {
  const type = value === null ? 'null' : Array.isArray(value) ? 'array'
    : Number.isInteger(value) ? 'integer' : typeof value;
  if (rule.type !== undefined) {
    const allowed = [rule.type].flat();
    assert.ok(allowed.includes(type) || (type === 'integer' && allowed.includes('number')),
      `${path} is ${type}`);
  }
  if (rule.const !== undefined) assert.equal(value, rule.const, path);
  if (rule.enum !== undefined) assert.ok(rule.enum.includes(value), `${path} is ${value}`);
  if (rule.minimum !== undefined) assert.ok(value >= rule.minimum, path);
  if (type === 'array') value.forEach((item, i) => check(item, rule.items ?? {}, `${path}[${i}]`));
  if (type !== 'object') return;
  for (const name of rule.required ?? []) assert.ok(name in value, `${path}.${name} is missing`);
  for (const [name, item] of Object.entries(value)) {
    const known = rule.properties?.[name];
    if (rule.additionalProperties === false) assert.ok(known, `${path}.${name} is not known`);
    check(item, known ?? {}, `${path}.${name}`);
  }
}
