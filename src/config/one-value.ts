/** JSON that says each thing once: JSON.parse() takes the last of two values, and says nothing. */
import { shortened } from "../contract/errors.ts";

/** A key that an object has twice. */
export class TwiceInJson extends Error {
  override readonly name = "TwiceInJson";
  /** As it is in the text, with its quotes. */
  readonly key: string;
  /** Of the second one. */
  readonly place: string;

  constructor(key: string, place: string) {
    super("twice in one object");
    this.key = shortened(key, 100);
    this.place = place;
  }
}

/** @throws SyntaxError of JSON.parse(), whose message quotes the text; TwiceInJson. */
export function parseOnce(json: string): unknown {
  const value: unknown = JSON.parse(json);
  const objects: Set<string>[] = [];
  for (const { 0: token, index } of json.matchAll(/"(?:[^"\\]+|\\.)*"(?:\s*:)?|[{}]/g)) {
    if (token === "{") objects.push(new Set());
    else if (token === "}") objects.pop();
    else if (token.endsWith(":")) {
      const key = token.slice(0, token.lastIndexOf('"') + 1);
      const keys = objects[objects.length - 1];
      const name = JSON.parse(key) as string;
      if (keys?.has(name) === true) throw new TwiceInJson(key, placeOf(json, index));
      keys?.add(name);
    }
  }
  return value;
}

/** `line 3, column 14` of a character, which people count from 1. */
export function placeOf(text: string, offset: number): string {
  const before = text.slice(0, offset);
  return `line ${before.split("\n").length}, column ${offset - before.lastIndexOf("\n")}`;
}
