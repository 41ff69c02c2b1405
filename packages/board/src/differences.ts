/** Configurations side by side: every key as a path, and which of them differ. */

export interface ConfigRow {
  /** Keys joined by dots, as overrides of sb-train name them. */
  key: string;
  /** Of each configuration in turn; undefined where it has no such key. */
  values: (string | undefined)[];
  differs: boolean;
}

/** The rows of all configurations, in the order in which keys first appear. */
export function compareConfigs(configs: readonly unknown[]): ConfigRow[] {
  const flat = configs.map((config) => {
    const values = new Map<string, string>();
    flatten(config, [], values);
    return values;
  });
  const keys = new Set(flat.flatMap((values) => [...values.keys()]));
  return [...keys].map((key) => {
    const values = flat.map((one) => one.get(key));
    return { key, values, differs: new Set(values).size > 1 };
  });
}

function flatten(value: unknown, path: readonly string[], into: Map<string, string>): void {
  if (typeof value === 'object' && value !== null && Object.keys(value).length > 0) {
    for (const [key, inner] of Object.entries(value)) flatten(inner, [...path, key], into);
  } else if (value !== undefined && path.length > 0) {
    into.set(path.join('.'), typeof value === 'string' ? value : JSON.stringify(value));
  }
}
