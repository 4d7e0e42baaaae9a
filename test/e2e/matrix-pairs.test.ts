/** Values that belong together and are written in steps must not kill a service, nor keep it down. */
import { expect } from "vitest";
import { onEachGuest } from "./guests.ts";
import { areOnChange, scenario } from "./scenario.ts";

/** As a server with a certificate of another key does, it dies of a wrong pair, and says which one it has. */
const needsPair = `cert=$(cat /tmp/cert) key=$(cat /tmp/key)
echo "start $cert $key"
[ "$cert" = "$key" ] || exit 1
exec sleep infinity
`;
const pairOf1 = { cert: "1", key: "1" };
/** What is documented, and not what other scenarios have to be quick. */
const defaults = { onChange: { settle: 2, minInterval: 3 } };

onEachGuest("a certificate and its key", (guest) => {
  const dies = { service: ["Restart=on-failure"] };

  scenario(guest, "written 0.8 s apart are one rotation", async (pairOf) => {
    const pair = await pairOf({ name: "close", secrets: pairOf1, program: needsPair, config: defaults, target: dies });
    await pair.start();
    // One process: each that a busy machine has yet to begin would make it longer.
    const twice = `rename ".c", "cert" or die; select undef, undef, undef, 0.8; rename ".k", "key" or die`;
    await guest.run(`cd ${pair.store} && printf 2 >.c && printf 2 >.k && perl -e '${twice}'`);
    expect(await pair.untilSaid("start 2 2", { lines: 2 })).toEqual(["start 1 1", "start 2 2"]);
  });

  for (const restart of ["no", "on-failure"])
    scenario(
      guest,
      `written further apart than settle: the service that died of the wrong pair runs with the right one (Restart=${restart})`,
      async (pairOf) => {
        const name = `apart-${restart}`;
        const target = { service: [`Restart=${restart}`] };
        const pair = await pairOf({ name, secrets: pairOf1, program: needsPair, config: defaults, target });
        await pair.start();
        await pair.put("cert", "2");
        await pair.untilState(pair.target, "failed");
        await pair.put("key", "2");
        await pair.untilSaid("start 2 2", { timeout: 60 });
        await pair.untilState(pair.target, "active");
        await pair.untilState(pair.sidecar, "active");
        await guest.until(
          "the journal says so",
          () => pair.journal(),
          (lines) => lines.includes("started again, newer secrets are there"),
        );
        // And it is as before: the next rotation finds it.
        await pair.putTogether({ cert: "3", key: "3" });
        await pair.untilSaid("start 3 3");
      },
      { notOnChange: "its sidecar stops with the service, and nobody waits for the right pair" },
    );

  if (areOnChange)
    scenario(
      guest,
      "written further apart than settle: the service that died of the wrong pair starts with the right one",
      async (pairOf) => {
        const pair = await pairOf({ name: "apart", secrets: pairOf1, program: needsPair, config: defaults });
        await pair.start();
        await pair.put("cert", "2");
        await pair.untilState(pair.target, "failed");
        await pair.untilState(pair.sidecar, "inactive");
        await pair.put("key", "2");
        await pair.start();
        await pair.untilSaid("start 2 2");
      },
    );

  scenario(guest, "with a missing second half: the service stays failed, and its sidecar ends", async (pairOf) => {
    const pair = await pairOf({ name: "alone", secrets: pairOf1, program: needsPair, config: defaults });
    await pair.start();
    await pair.put("cert", "2");
    await pair.untilState(pair.target, "failed");
    await pair.untilState(pair.sidecar, "inactive", 60);
    // Only one that stays has waited for it.
    if (!pair.isOnChange) expect(await pair.journal()).toContain("stays failed: no newer secrets came");
    expect(await pair.state(pair.target)).toBe("failed");
  });
});

onEachGuest("a file that is written in place over six seconds", (guest) => {
  scenario(guest, "is published once, whole", async (pairOf) => {
    const program = 'echo "start $(wc -l </tmp/token)"\nexec sleep infinity\n';
    const pair = await pairOf({ name: "slow", program, config: defaults });
    await pair.start();
    // One process: each that a busy machine has yet to begin would make the pauses longer.
    const lines = `for (1 .. 7) { syswrite STDOUT, "$_\\n" or die; select undef, undef, undef, 1 }`;
    await guest.run(`perl -e '${lines}' >${pair.store}/token`);
    await pair.untilSaid("start 7", { lines: 2 });
    expect(await pair.said()).toHaveLength(2);
  });
});
