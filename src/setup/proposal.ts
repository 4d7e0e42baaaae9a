/** The proposed file in /etc/fetcher for a service: the present one, with what the command line adds. */
import { withFlags, type ConfigFlags } from "../config/config-file.ts";
import type { Delivery } from "../config/config-schema.ts";
import { deriveName, isSpecialName } from "../config/env-names.ts";
import { isRecord } from "../contract/records.ts";

export interface Wish {
  readonly ids: readonly { readonly id: string; readonly mode: string | undefined }[];
  readonly delivery: Delivery | undefined;
  readonly backend: string | undefined;
  readonly set: ConfigFlags["set"];
  /** What a rotation does; undefined: the command line does not say. */
  readonly action: "restart" | "reload" | undefined;
  /** Each id is a path whose keys are all published. */
  readonly all: boolean;
  /** Imported variables, and which of them are empty. */
  readonly imported: ReadonlyMap<string, { readonly isEmpty: boolean }>;
}

type Json = Readonly<Record<string, unknown>>;

const ROTATION = ["reloadOnChange", "pollingInterval", "refreshInterval"];

/** @param now the current file; `{}` without one. */
export function proposed(now: Json, wish: Wish): Json {
  const { backend, set } = wish;
  const delivery = wish.delivery ?? now["delivery"] ?? (isNew(now) && wish.imported.size > 0 ? "env" : undefined);
  // Settings of one store mean nothing to another.
  const isOther = backend !== undefined && now["backend"] !== undefined && now["backend"] !== backend;
  const before = recordIn(now, "config");
  const kept = isOther ? Object.fromEntries(Object.entries(before).filter(([key]) => ROTATION.includes(key))) : before;
  const config = withFlags(kept, set);
  const environment = environmentOf(now, wish, delivery);
  return {
    ...given("$schema", now["$schema"]),
    ...given("delivery", delivery),
    ...given("backend", backend ?? now["backend"]),
    ...(now["config"] === undefined && Object.keys(config).length === 0 ? {} : { config }),
    ...rest(now, ["$schema", "delivery", "backend", "config", "secrets", "environment", "onChange"]),
    secrets: secretsOf(now, wish, delivery === "env" && environment === undefined),
    ...given("environment", environment),
    ...given("onChange", onChangeOf(now, wish)),
  };
}

function isNew(now: Json): boolean {
  return Object.keys(now).length === 0;
}

function secretsOf(now: Json, { ids, all, imported }: Wish, isEnv: boolean): Json {
  // A map: in an object "__proto__" would be no ordinary key.
  const secrets = new Map(Object.entries(recordIn(now, "secrets")));
  const before = (id: string): Json => {
    const said = secrets.get(id);
    return isRecord(said) ? said : {};
  };
  for (const { id, mode } of ids) {
    // A secret with its own mode or a special name becomes a variable only with an explicit `env`.
    const isSpecial = mode !== undefined || isSpecialName(deriveName(id));
    const isAsked = isEnv && isSpecial && !all && before(id)["env"] === undefined;
    const more = { ...given("mode", mode), ...(isAsked ? { env: deriveName(id) } : {}), ...(all ? { all } : {}) };
    secrets.set(id, { ...before(id), ...more });
  }
  for (const [name, { isEmpty }] of imported) {
    // A special name becomes a variable only with an explicit `env`.
    const isAsked = isEnv && isSpecialName(name) && before(name)["env"] === undefined;
    secrets.set(name, { ...before(name), ...(isAsked ? { env: name } : {}), ...(isEmpty ? { empty: true } : {}) });
  }
  return Object.fromEntries(secrets);
}

/** Imported secrets were variables, and stay variables. */
function environmentOf(now: Json, { ids, imported, ...wish }: Wish, delivery: unknown): unknown {
  const before = now["environment"];
  const added = isRecord(before) && wish.delivery === "env" && !wish.all ? ids : [];
  if (before === true || (before === undefined && delivery === "env") || imported.size + added.length === 0)
    return before;
  const map = new Map(Object.entries(isRecord(before) ? before : {}));
  for (const { id } of added) if (![...map.values()].includes(id)) map.set(deriveName(id), id);
  for (const name of imported.keys()) map.set(name, name);
  return Object.fromEntries(map);
}

function onChangeOf(now: Json, { action }: Wish): unknown {
  if (action === undefined) return now["onChange"];
  return { ...rest(recordIn(now, "onChange"), ["signal"]), action };
}

function recordIn(json: Json, key: string): Json {
  const value = Object.hasOwn(json, key) ? json[key] : undefined;
  return isRecord(value) ? value : {};
}

function given(key: string, value: unknown): Json {
  return value === undefined ? {} : { [key]: value };
}

function rest(json: Json, known: readonly string[]): Json {
  return Object.fromEntries(Object.entries(json).filter(([key]) => !known.includes(key)));
}
