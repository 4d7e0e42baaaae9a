/**
 * A file of variables that is taken over gives the service the values that it had. e2e/import.test.ts asks systemd
 * itself.
 */
import { expect, test } from "vitest";
import { variablesIn } from "../../../src/setup/environment-file.ts";

const read = (text: string, joinsComments = false) => {
  const { values, ignored } = variablesIn(Buffer.from(text), joinsComments);
  return { values: Object.fromEntries([...values].map(([name, value]) => [name, value.toString()])), ignored };
};

test.each([
  ["A=b", { A: "b" }],
  ["A=\n", { A: "" }],
  ["  A = b c \t\n", { A: "b c" }],
  ["A='b # c'\n", { A: "b # c" }],
  ["A=b # c\n", { A: "b # c" }],
  [`A="b \\" \\$ \\\\ \\n"\n`, { A: `b " $ \\ \\n` }],
  ["A='it'\"'\"'s'\n", { A: "it's" }],
  ["A='one\ntwo'\nB=c", { A: "one\ntwo", B: "c" }],
  ["A=one\\\n two\n", { A: "one two" }],
  ['A="one\\\n two"\n', { A: "one two" }],
  ["A=b\\ \n", { A: "b " }],
  ["A=b\r\nB=c\r\n", { A: "b", B: "c" }],
  ["# A=b\n; B=c\nC=d\n", { C: "d" }],
  ["A=b\nA=c\n", { A: "c" }],
  ["A=$B ${C}\n", { A: "$B ${C}" }],
  ["no variable\nA=b\n", { A: "b" }],
  ['A="b" c\n', { A: "bc" }],
])("%j", (text, values) => {
  expect(read(text)).toEqual({ values, ignored: [] });
});

test("ignores a line whose name is not a valid variable, and reports its number", () => {
  expect(read("A=b\nexport C=d\n1E=f\n=x=y\n")).toEqual({ values: { A: "b" }, ignored: [2, 3, 4] });
});

test("ends a comment at the end of its line despite a backslash, from systemd 254 on", () => {
  expect(read("# a \\\nA=b\n").values).toEqual({ A: "b" });
  expect(read("# a \\\nA=b\n", true).values).toEqual({});
});
