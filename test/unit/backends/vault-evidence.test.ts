/** What a fetch keeps of its answers, to compare later ones with. If these fail, a wrong answer counts as the same. */
import { expect, test } from "vitest";
import { Evidence } from "../../../backends/vault/evidence.ts";

const request = Buffer.from("GET / HTTP/1.1\r\n\r\n");
const id = "01234567-89ab-cdef-0123-456789abcdef";
const body = (text = `{"request_id":"${id}","data":1}`) => Buffer.from(text);

function wanted(): Evidence {
  const evidence = new Evidence();
  expect(evidence.take()).toBeUndefined();
  return evidence;
}

test("keeps nothing before it is wanted, or after nobody wants it", () => {
  const evidence = new Evidence();
  evidence.note(request, true, 200, body());
  expect(evidence.take()).toBeUndefined();
  evidence.note(request, true, 200, body());
  evidence.end();
  evidence.note(request, true, 200, body());
  expect(evidence.take()).toBeUndefined();
});

test("keeps copies, and where the identifier of the request is", () => {
  const evidence = wanted();
  const [given, answer] = [Buffer.from(request), body()];
  evidence.note(given, true, 200, answer);
  given.fill(0);
  answer.fill(0);
  expect(evidence.take()).toEqual([{ request, body: body(), varies: [15, 51] }]);
  expect(evidence.take()).toBeUndefined();
});

test.each([
  ["in another place", `{"data":1,"request_id":"${id}"}`],
  ["in a list", `[{"request_id":"${id}"}]`],
  ["of another kind", `{"request_id":"${id.toUpperCase()}"}`],
  ["of another length", `{"request_id":"${id}0"}`],
  ["none", "{}"],
])("takes the whole body where the identifier is %s", (_, text) => {
  const evidence = wanted();
  evidence.note(request, true, 200, body(text));
  expect(evidence.take()?.map(({ varies }) => varies)).toEqual([[0, 0]]);
});

test.each<readonly [string, (evidence: Evidence) => void]>([
  [
    "a write",
    (evidence) => {
      evidence.note(request, false, 200, body());
    },
  ],
  [
    "a redirect",
    (evidence) => {
      evidence.note(request, true, 307, body());
    },
  ],
  [
    "a refusal",
    (evidence) => {
      evidence.note(request, true, 404, body());
    },
  ],
  [
    "a large answer",
    (evidence) => {
      evidence.note(request, true, 200, Buffer.alloc(65_537));
    },
  ],
  [
    "many answers",
    (evidence) => {
      for (let count = 0; count < 16; count++) evidence.note(request, true, 200, body());
    },
  ],
])("says nothing of a fetch with %s", (_, spoil) => {
  const evidence = wanted();
  evidence.note(request, true, 200, body());
  spoil(evidence);
  evidence.note(request, true, 200, body());
  expect(evidence.take()).toBeUndefined();
  evidence.begin();
  evidence.note(request, true, 200, body());
  expect(evidence.take()?.length).toBe(1);
});

test("takes an answer of just the size that is allowed", () => {
  const evidence = wanted();
  evidence.note(request, true, 200, Buffer.alloc(65_536));
  expect(evidence.take()?.length).toBe(1);
});

test("forgets what the fetch before has seen", () => {
  const evidence = wanted();
  evidence.note(request, true, 200, body());
  evidence.begin();
  expect(evidence.take()).toBeUndefined();
});
