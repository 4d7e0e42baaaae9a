/** The backend as the engine would open it, on the stand-in for AWS, until the test ends. */
import { onTestFinished } from "vitest";
import { loadBackend } from "../../backends/index.ts";
import { Observed } from "../contract/observed.ts";
import { type Call, type Reply, StandIn } from "./stand-in.ts";

export const region = "eu-central-1";

/** @param answer undefined: the stand-in never answers the request. */
export async function openAws(
  answer: (call: Call) => Reply | undefined,
  settings: object = {},
  sourceOf?: (id: string) => Record<string, unknown>,
) {
  const standIn = await StandIn.start(answer);
  onTestFinished(() => standIn.close());
  const module = await loadBackend("aws", "/");
  const observed = await Observed.open(module, { region, endpoint: standIn.url, timeout: 5, ...settings }, sourceOf);
  return { observed, standIn };
}

/** A secret in the form of the service. */
export const secretOf = (name: string, text = `value of ${name}`) => ({
  ARN: `arn:aws:secretsmanager:${region}:123456789012:secret:${name}-AbCdEf`,
  Name: name,
  SecretString: text,
  VersionId: `version-of-${name}`,
});

/** The ids that a batch asks for. */
export const idsOf = ({ body }: Call) => body["SecretIdList"] as string[];
