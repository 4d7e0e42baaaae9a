import fc from "fast-check";
import { afterAll } from "vitest";
import { configOf } from "../../unit/command-line.ts";
import { json, mutated, secretText } from "../arbitraries.ts";
import { CANARY } from "../invariants.ts";
import { target } from "../target.ts";
import { answer, Answering, bodyOf } from "./server.ts";
import { fetchAll } from "./store.ts";

const arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf";
const value = {
  ARN: arn,
  Name: "app",
  VersionId: "v1",
  SecretString: `{"a":"${CANARY}","b":{"c":1}}`,
  CreatedDate: 1.5e9,
};
/** Answers and errors of GetSecretValue and BatchGetSecretValue, after the API reference. */
const answers = [
  value,
  { ...value, SecretString: undefined, SecretBinary: Buffer.from(CANARY).toString("base64") },
  { SecretValues: [value, { ...value, Name: "other" }], Errors: [{ SecretId: "x", ErrorCode: "E", Message: CANARY }] },
  { SecretValues: [], NextToken: CANARY },
  { __type: "ResourceNotFoundException", Message: CANARY },
  { __type: `com.amazonaws.x#${CANARY}`, message: CANARY },
  { __type: "InvalidRequestException", message: `${CANARY} was marked for deletion` },
  { __type: "AccessDeniedException", message: CANARY },
  { __type: "ThrottlingException", message: CANARY },
] as const;
const keys = [
  "SecretString",
  "SecretBinary",
  "VersionId",
  "SecretValues",
  "Errors",
  "NextToken",
  "__type",
  "message",
  "Name",
  "ARN",
];

const document = fc.oneof(
  { weight: 2, arbitrary: fc.constantFrom(...answers).map((one): unknown => one) },
  { weight: 4, arbitrary: fc.constantFrom(...answers).chain((one) => mutated(one, json(...keys))) },
  { weight: 1, arbitrary: secretText.map((SecretString): unknown => ({ ...value, SecretString })) },
  { weight: 1, arbitrary: json(...keys) },
);

const server = new Answering();
afterAll(() => {
  server.close();
});

export const awsAnswers = target({
  title: "whatever AWS Secrets Manager answers, there is a value or one line that shows nothing of it",
  weight: 6,
  input: fc.record({
    whole: fc.boolean(),
    answers: fc.array(answer("application/x-amz-json-1.1", bodyOf(document)), { minLength: 1, maxLength: 5 }),
  }),
  async check({ whole, answers: said }) {
    process.env["AWS_ACCESS_KEY_ID"] = "fuzz";
    process.env["AWS_SECRET_ACCESS_KEY"] = CANARY;
    server.answers = said;
    server.asked = 0;
    const config = configOf({
      backend: "aws",
      config: { region: "eu-west-1", endpoint: await server.url(), timeout: 2, ...(whole ? {} : { secretId: "app" }) },
      secrets: whole ? { app: {}, other: {}, old: { source: { versionStage: "AWSPREVIOUS" } } } : { a: {}, b: {} },
    });
    await fetchAll(config);
  },
});
