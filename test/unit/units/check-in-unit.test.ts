import { expect, test } from "vitest";
import { settingsIn } from "../../../src/units/check-in-unit.ts";

test("reads the [Service] settings of a unit with drop-ins in order, for this instance", () => {
  const text = String.raw`# /etc/systemd/system/fetcher@.service
[Unit]
Description=Secrets of %i.service
[Service]
ExecStart=fetcher --config /etc/fetcher/%i.json
BindReadOnlyPaths=-/etc/fetcher/%i.json \
    /etc/fetcher/%i
IPAddressDeny=any
Environment=A=100%%

# /etc/systemd/system/fetcher@app.service.d/network.conf
[Service]
IPAddressDeny=
[Install]
WantedBy=multi-user.target
`;
  expect(settingsIn(text, String.raw`fetcher@a\x2db.service`)).toEqual([
    ["ExecStart", String.raw`fetcher --config /etc/fetcher/a\x2db.json`],
    ["BindReadOnlyPaths", String.raw`-/etc/fetcher/a\x2db.json      /etc/fetcher/a\x2db`],
    ["IPAddressDeny", "any"],
    ["Environment", "A=100%%"],
    ["IPAddressDeny", ""],
  ]);
});
