/** Looks at a server by a thread of the executable's addon (lookout.c). */
import type { Lookout, Plan } from "../contract/backend.ts";
import type { LookOut, Sight } from "../contract/lookout.ts";
import { encoded } from "../contract/text.ts";

/** Functions of the addon: native.h says what they take. */
export interface NativeLookouts {
  lookOut(sight: object, news: () => void): object | undefined;
  endLookOut(lookout: object): void;
}

/** @param native undefined: the addon cannot be loaded. */
export function lookOutNatively(native: () => NativeLookouts | undefined): LookOut {
  return (sight, plan, news) => {
    const addon = native();
    return addon === undefined ? undefined : begin(addon, sight, plan, news);
  };
}

function begin(native: NativeLookouts, sight: Sight, plan: Plan, news: () => void): Lookout | undefined {
  const { peer, word, asked } = sight;
  let isOver = false;
  const token = encoded(word?.text ?? "");
  const lookout = native.lookOut(
    {
      address: encoded("path" in peer ? peer.path : peer.host),
      port: "path" in peer ? 0 : peer.port,
      first: Math.round(plan.first * 1000),
      interval: Math.max(1, Math.round(plan.interval * 1000)),
      path: encoded(word?.path ?? ""),
      word: token,
      files: encoded(plan.files.map((path) => `${path}\0`).join("")),
      exchanges: asked.map(({ request, body, varies: [from, to] }) => ({ request, body, from, to })),
    },
    () => {
      if (!isOver) news();
    },
  );
  token.fill(0);
  if (lookout === undefined) return undefined;
  return {
    end: () => {
      isOver = true;
      native.endLookOut(lookout);
    },
  };
}
