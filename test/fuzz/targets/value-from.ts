import fc from "fast-check";
import { expect } from "vitest";
import aws from "../../../backends/aws/index.ts";
import { text } from "../arbitraries.ts";
import { expectConfigError, expectFitToSay } from "../invariants.ts";
import { target } from "../target.ts";

const field = fc.oneof(
  fc.constantFrom(
    "arn",
    "aws",
    "aws-cn",
    "secretsmanager",
    "ssm",
    "eu-west-1",
    "123456789012",
    "secret",
    "app/db-AbCdEf",
  ),
  fc.constantFrom("", "password", "AWSCURRENT", "AWSPREVIOUS", "0a1b"),
  text,
);
const proper = fc
  .tuple(
    fc.constantFrom("n", "a/b-AbCdEf"),
    fc.array(
      field.filter((part) => !part.includes(":")),
      { maxLength: 4 },
    ),
  )
  .map(([name, more]) =>
    ["arn", "aws", "secretsmanager", "eu-west-1", "123456789012", "secret", name, ...more].join(":"),
  );

export const valueFroms = target<readonly [string, string]>({
  title: "a valueFrom is one value of one secret, or an error that names it",
  weight: 2,
  input: fc.tuple(
    fc.oneof(
      proper,
      fc.array(field, { maxLength: 12 }).map((fields) => fields.join(":")),
      text,
    ),
    text,
  ),
  found: [["\n", ""] as const],
  check([valueFrom, id]: readonly [string, string]) {
    try {
      const settings = aws.parseSettings({});
      const source = aws.parseSource(id, { valueFrom }, settings);
      expect(source.secretId).not.toBe("");
      expect(valueFrom.startsWith(source.secretId)).toBe(true);
      // Parsing neither loses nor adds anything.
      const { secretId, jsonKey = "", versionStage = "", versionId = "" } = source as unknown as Record<string, string>;
      const again = [secretId, jsonKey, versionStage, versionId].join(":");
      expect([again, secretId]).toContain(valueFrom);
      expectFitToSay(aws.describe(source, settings));
    } catch (error) {
      expectConfigError(error, ["valueFrom"]);
    }
  },
});
