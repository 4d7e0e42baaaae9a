/** Which value of AWS Secrets Manager a secret is: settings, `valueFrom` strings as ECS writes them, and regions. */
import * as v from "valibot";
import { ConfigError } from "../../src/contract/errors.ts";
import { aboutBackend, means, option } from "../../src/contract/option.ts";
import { objectAs, parse, requestSeconds, settingsObject, text } from "../../src/contract/settings.ts";

const url = v.pipe(
  text,
  v.check(
    (value) => URL.canParse(value) && new URL(value).port !== "0" && /^https?:\/\/[^/@\s]+\/?$/.test(value),
    'expected a URL without a path, "https://host:port"',
  ),
);

export const about = aboutBackend({
  name: "AWS Secrets Manager",
  text: "AWS Secrets Manager. Credentials come as the AWS SDK finds them. With `config.secretId`, an id is a JSON key of that secret; else it is the name of a secret.",
  network: true,
  // ~/.aws
  home: true,
});

/** As other programs call them. */
const elsewhere = {
  region: "awsregion defaultregion",
  endpoint: "endpointurl url serviceurl",
  profile: "awsprofile",
  roleArn: "role assumerole assumerolearn",
  secretId: "secret secretname secretarn",
};
export const Settings = settingsObject(elsewhere, {
  region: option(
    v.optional(text),
    means("the region of the secrets; the region in an ARN wins", {
      otherwise: "`AWS_REGION`, `AWS_DEFAULT_REGION`, that of the `profile`",
      example: "eu-central-1",
    }),
  ),
  endpoint: option(
    v.optional(url),
    means("another address of the service, `https://HOST:PORT`", { otherwise: "the region's own" }),
  ),
  profile: option(
    v.optional(text),
    means("a profile of the AWS configuration files", { otherwise: "the SDK's choice" }),
  ),
  roleArn: option(
    v.optional(v.pipe(text, v.regex(/^arn:[\w-]+:iam::\d{12}:role\//, "expected the ARN of a role"))),
    means("the ARN of a role to assume", { otherwise: "none" }),
  ),
  externalId: option(
    v.optional(text),
    means("what the role's trust policy asks for; needs `roleArn`", { otherwise: "none" }),
  ),
  secretId: option(
    v.optional(text),
    means("name or ARN of the one secret that holds all of this scope", { otherwise: "each id is a secret" }),
  ),
  timeout: option(v.optional(requestSeconds, 15), means("for a request; at most 100")),
});
export type Settings = v.InferOutput<typeof Settings>;

const word = v.pipe(
  text,
  v.check((value) => !/[\p{Cc}\u2028\u2029]/u.test(value), "must not contain control characters"),
);
/** As other programs call them. */
const sourceElsewhere = {
  secretId: "name arn secret secretname secretarn path",
  jsonKey: "key property field",
  versionStage: "stage",
  versionId: "version",
};
export const Source = objectAs(sourceElsewhere, {
  valueFrom: option(
    v.optional(word),
    means(
      "all in one, as Amazon ECS writes it: `ARN:json-key:version-stage:version-id`, empty fields keep their colons",
      { otherwise: "none" },
    ),
  ),
  secretId: option(v.optional(word), means("name or ARN", { otherwise: "`config.secretId`, or else the id" })),
  jsonKey: option(
    v.optional(word),
    means("a key of a secret that is a JSON object", {
      otherwise: "the id, if the secret is that of `config.secretId`; else the whole value",
    }),
  ),
  versionStage: option(v.optional(word), means("`AWSPREVIOUS`, or a label of your own", { otherwise: "`AWSCURRENT`" })),
  versionId: option(v.optional(word), means("one version for good", { otherwise: "the newest" })),
});

/** One value in the store. */
export interface Source {
  /** Name, ARN, or ARN without its random end. */
  readonly secretId: string;
  /** undefined: the whole value. */
  readonly jsonKey: string | undefined;
  /** undefined: AWSCURRENT, or the version that `versionId` names. */
  readonly versionStage: string | undefined;
  readonly versionId: string | undefined;
}

export function parseSettings(input: unknown): Settings {
  const settings = parse(Settings, input);
  if (settings.externalId !== undefined && settings.roleArn === undefined)
    throw new ConfigError("externalId", "needs roleArn");
  return settings;
}

/** With `config.secretId`, an id is a JSON key of that secret; otherwise it is the name of a secret. */
export function parseSource(id: string, input: unknown, settings: Settings): Source {
  const { valueFrom, ...fields } = parse(Source, input);
  if (valueFrom !== undefined) {
    const [other] = Object.keys(fields);
    if (other !== undefined) throw new ConfigError(other, "does not go together with valueFrom, which names all of it");
    return parseValueFrom(valueFrom);
  }
  const shared = fields.secretId === undefined && settings.secretId !== undefined;
  return {
    secretId: fields.secretId ?? settings.secretId ?? id,
    jsonKey: fields.jsonKey ?? (shared ? id : undefined),
    versionStage: fields.versionStage,
    versionId: fields.versionId,
  };
}

/** All keys of a secret that is a JSON object. @throws ConfigError */
export function parseWhole(id: string, input: Readonly<Record<string, unknown>>, settings: Settings): Source {
  const source = parseSource(id, input, settings);
  if (input["jsonKey"] !== undefined) throw new ConfigError("jsonKey", 'does not go together with "all": true');
  if (input["valueFrom"] !== undefined && source.jsonKey !== undefined)
    throw new ConfigError("valueFrom", 'must not name a key together with "all": true');
  return { ...source, jsonKey: undefined };
}

/**
 * `arn:…:secret:NAME:json-key:version-stage:version-id`; a field may be empty, but keeps its colon, as in the container
 * definitions of Amazon ECS. A name without colons is the whole secret.
 */
function parseValueFrom(valueFrom: string): Source {
  const fields = valueFrom.split(":");
  if (fields.length === 1) return whole(valueFrom);
  const [arn, , service, , , kind] = fields;
  if (arn !== "arn" || service !== "secretsmanager" || kind !== "secret" || (fields[6] ?? "") === "")
    throw new ConfigError(
      "valueFrom",
      "expected the ARN of a secret, arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME",
    );
  const secretId = fields.slice(0, 7).join(":");
  if (fields.length === 7) return whole(secretId);
  if (fields.length !== 10)
    throw new ConfigError(
      "valueFrom",
      "expected ARN:json-key:version-stage:version-id (empty fields keep their colons)",
    );
  const [jsonKey, versionStage, versionId] = fields.slice(7).map((field) => (field === "" ? undefined : field));
  return { secretId, jsonKey, versionStage, versionId };
}

function whole(secretId: string): Source {
  return { secretId, jsonKey: undefined, versionStage: undefined, versionId: undefined };
}

/** The region in an ARN, which wins over the configured one: a secret lives in one region. */
export function regionOf(secretId: string, settings: Settings): string | undefined {
  const inArn = secretId.startsWith("arn:") ? secretId.split(":")[3] : undefined;
  return inArn ?? settings.region ?? variable("AWS_REGION") ?? variable("AWS_DEFAULT_REGION");
}

/** @returns undefined for an empty variable, too: an EnvironmentFile= often has some. */
export function variable(name: string): string | undefined {
  const value = process.env[name];
  return value === "" ? undefined : value;
}

/** For people: `prod/db, key password, stage AWSPREVIOUS`. */
export function describeSource({ secretId, jsonKey, versionStage, versionId }: Source): string {
  return [
    secretId,
    jsonKey === undefined ? undefined : `key ${JSON.stringify(jsonKey)}`,
    versionStage === undefined ? undefined : `stage ${versionStage}`,
    versionId === undefined ? undefined : `version ${versionId}`,
  ]
    .filter((part) => part !== undefined)
    .join(", ");
}
