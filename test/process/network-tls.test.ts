/**
 * What the Vault backend promises about TLS, checked on the program from outside. If these fail, a man in the middle
 * gets the token, or the right server gets no request.
 */
import { execFileSync, spawn } from "node:child_process";
import * as fs from "node:fs";
import type net from "node:net";
import { createInterface } from "node:readline";
import { beforeAll, expect, onTestFinished, test } from "vitest";
import { needs } from "../requirements.ts";
import { fakeClock } from "../soak/fake-clock.ts";
import { temporary } from "../contract/temporary.ts";
import { runsOnNode } from "../program.ts";
import type { Answering, StandIn } from "../vault/stand-in.ts";
import { eventually, Place } from "./daemon.ts";
import {
  awsAt,
  awsKeys,
  Certificates,
  listener,
  passOn,
  publishes,
  refuses,
  standInWithValue,
  tlsListener,
  value,
  vaultAt,
} from "./network.ts";

function encrypt(key: string, more: readonly string[]): void {
  execFileSync("openssl", ["pkey", "-in", key, "-aes256", "-passout", "pass:canary", "-out", `${key}.new`, ...more]);
  fs.renameSync(`${key}.new`, key);
}

/** A forwarder. For each line that it reads, the system drops in silence what comes over the connections so far. */
const forgetful = `
import ctypes, socket, struct, sys, threading, time
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
taken, lost = [], {}
def copy(one, other):
    try:
        while data := one.recv(65536):
            # An answer that is under way, not the end of TLS later.
            if time.monotonic() - lost.get(other, time.monotonic()) < 1: other.sendall(data)
    except OSError: pass
    if other in lost: return
    try: other.shutdown(socket.SHUT_WR)
    except OSError: pass
def serve():
    while True:
        one, _ = server.accept()
        other = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
        taken.append(one)
        for pair in ((one, other), (other, one)): threading.Thread(target=copy, args=pair, daemon=True).start()
threading.Thread(target=serve, daemon=True).start()
for _ in sys.stdin:
    nothing = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    for one in taken: one.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", 1, ctypes.addressof(nothing)))
    lost.update((one, time.monotonic()) for one in taken)
    print("forgotten", flush=True)
`;

needs("openssl").describe("Vault over TLS", () => {
  let certificates: Certificates;
  const pem = (name: string) => certificates.path(name);

  beforeAll(async () => {
    const { path, dispose } = await temporary();
    certificates = new Certificates(path);
    for (const authority of ["ours", "strangers"]) certificates.authority(authority);
    certificates.issue("good", "ours");
    certificates.issue("client", "ours");
    certificates.issue("strange", "strangers");
    certificates.issue("expired", "ours", -1);
    return dispose;
  });

  /** @returns the port of a TLS server in front of a stand-in. */
  const secured = (certificate: string, standIn: StandIn, more: object = {}) =>
    tlsListener({ ...certificates.pair(certificate), ...more }, passOn(standIn.url));

  test("trusts a server whose certificate the authority issued for its name", async () => {
    const standIn = await standInWithValue();
    const place = new Place();
    const port = await secured("good", standIn);
    await publishes(place, vaultAt(place, `https://localhost:${port}`, { tls: { caFile: pem("ours") } }));
  });

  test("checks the name in tls.serverName when the address has another name", async () => {
    const standIn = await standInWithValue();
    const [place, other] = [new Place(), new Place()];
    const url = `https://127.0.0.1:${await secured("good", standIn)}`;
    const tls = { caFile: pem("ours"), serverName: "localhost" };
    await publishes(place, vaultAt(place, url, { tls }));
    const wrong = { ...tls, serverName: "other.test" };
    await refuses(other, vaultAt(other, url, { tls: wrong }), "certificate is for another name");
  });

  const trusting = { NODE_TLS_REJECT_UNAUTHORIZED: "0" };
  const otherName = "the server's certificate is for another name";
  const unknown = "the server's certificate is from an unknown authority: name it in tls.caFile";
  test.each([
    ["another name", "good", "https://127.0.0.1", "ours", {}, otherName],
    ["another name, whatever the environment says", "good", "https://127.0.0.1", "ours", trusting, otherName],
    ["an unknown authority", "strange", "https://localhost", "ours", {}, unknown],
    ["an unknown authority, whatever the environment says", "strange", "https://localhost", "ours", trusting, unknown],
    ["no authority known to this machine", "good", "https://localhost", undefined, {}, unknown],
    ["no authority, whatever the environment says", "good", "https://localhost", undefined, trusting, unknown],
    ["long ago", "expired", "https://localhost", "ours", {}, "the server's certificate has expired"],
  ])("refuses a certificate of %s before it sends anything", async (_, server, url, authority, env, says) => {
    const standIn = await standInWithValue();
    const place = new Place();
    const port = await secured(server, standIn);
    const settings = authority === undefined ? {} : { tls: { caFile: pem(authority) } };
    await refuses(place, vaultAt(place, `${url}:${port}`, settings), says, env);
    expect(standIn.asked).toEqual([]);
  });

  test("names tls.certFile where a server refuses the client's certificate by an answer, as nginx does", async () => {
    const standIn = await standInWithValue();
    standIn.answering = (_, response) =>
      response.writeHead(400, { "content-type": "text/html" }).end("The SSL certificate error").writableEnded;
    const place = new Place();
    const url = `https://localhost:${await secured("good", standIn)}`;
    const says = "(status 400, text/html); the server may expect another `tls.certFile`";
    await refuses(place, vaultAt(place, url, { tls: { caFile: pem("ours") } }), says);
  });

  needs("fake-clock").test("waits while the clock is behind, and continues once it is set", async () => {
    const standIn = await standInWithValue();
    const place = new Place();
    const clock = place.path("clock");
    fs.writeFileSync(clock, "-1y\n");
    const env = {
      ...{ LD_PRELOAD: fakeClock() ?? "", FAKETIME_TIMESTAMP_FILE: clock, FAKETIME_NO_CACHE: "1" },
      FAKETIME_DONT_FAKE_MONOTONIC: "1",
    };
    const url = `https://localhost:${await secured("good", standIn)}`;
    const daemon = place.start(vaultAt(place, url, { tls: { caFile: pem("ours") } }), { env });
    await daemon.says(/certificate is not valid yet \(or the clock is wrong\).*; trying again/);
    expect(standIn.asked).toEqual([]);
    fs.writeFileSync(clock, "+0\n");
    await daemon.ready();
    expect(place.read("id")).toBe(value);
  });

  test.each(["SSL_CERT_FILE", "SSL_CERT_DIR"])("does not trust the authorities in $%s", async (name) => {
    const standIn = await standInWithValue();
    const place = new Place();
    const port = await secured("good", standIn);
    const env = { [name]: name.endsWith("DIR") ? pem("").replace(/\/[^/]*$/, "") : pem("ours") };
    await refuses(place, vaultAt(place, `https://localhost:${port}`), unknown, env);
    expect(standIn.asked).toEqual([]);
  });

  test("trusts the authorities in $NODE_EXTRA_CA_CERTS", async () => {
    const standIn = await standInWithValue();
    const place = new Place();
    const port = await secured("good", standIn);
    await publishes(place, vaultAt(place, `https://localhost:${port}`), { NODE_EXTRA_CA_CERTS: pem("ours") });
  });

  test("turns verification off only by its option, with a warning", async () => {
    const standIn = await standInWithValue();
    const place = new Place();
    const tls = { insecureDoNotVerifyServer: true };
    const daemon = await publishes(
      place,
      vaultAt(place, `https://127.0.0.1:${await secured("strange", standIn)}`, { tls }),
    );
    expect((await daemon.says(/tls\.insecureDoNotVerifyServer is set/)).level).toBe("warn");
  });

  test("sends no token to a server with nothing newer than TLS 1.1", async () => {
    const standIn = await standInWithValue();
    const place = new Place();
    const old = { minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" };
    const port = await secured("good", standIn, old);
    const config = vaultAt(place, `https://localhost:${port}`, { tls: { caFile: pem("ours") } });
    await refuses(place, config, "the server offers no TLS version that is allowed");
    expect(standIn.asked).toEqual([]);
  });

  test("reports that a server speaks no TLS at an https URL", async () => {
    const standIn = await standInWithValue();
    const place = new Place();
    const config = vaultAt(place, standIn.url.replace("http:", "https:"));
    await refuses(place, config, "the server does not speak TLS on that port");
    expect(standIn.asked).toEqual([]);
  });

  test("gives up a silent TLS handshake after connectTimeout", async () => {
    const place = new Place();
    const port = await listener(() => undefined);
    const config = vaultAt(place, `https://localhost:${port}`, { connectTimeout: 0.4 });
    await refuses(place, config, "no connection within 0.4 s");
  });

  test("sends a client certificate to a server that asks for one, and reports the server's refusal without one", async () => {
    const standIn = await standInWithValue();
    const mutual = { requestCert: true, rejectUnauthorized: true, ca: fs.readFileSync(pem("ours")) };
    const url = `https://localhost:${await secured("good", standIn, mutual)}`;
    const [place, without] = [new Place(), new Place()];
    const tls = { caFile: pem("ours") };
    await publishes(
      place,
      vaultAt(place, url, { tls: { ...tls, certFile: pem("client"), keyFile: pem("client-key") } }),
    );
    await refuses(without, vaultAt(without, url, { tls }), "the server wants a client certificate");
  });

  test("asks for a client certificate where a server of TLS 1.2 only breaks off", async () => {
    const standIn = await standInWithValue();
    const ca = fs.readFileSync(pem("ours"));
    const mutual = { requestCert: true, rejectUnauthorized: true, ca, maxVersion: "TLSv1.2" };
    const url = `https://localhost:${await secured("good", standIn, mutual)}`;
    const place = new Place();
    const config = vaultAt(place, url, { tls: { caFile: pem("ours") } });
    await refuses(place, config, "does it want a client certificate (tls.certFile)?");
  });

  const half = (text: string) => text.slice(0, text.length / 2);
  test.each<[string, string, (tls: Record<"caFile" | "certFile" | "keyFile", string>) => void, string]>([
    [
      "an authority cut off",
      "caFile",
      ({ caFile }) => {
        fs.writeFileSync(caFile, half(fs.readFileSync(caFile, "utf8")));
      },
      "ends in the middle",
    ],
    [
      "a certificate cut off",
      "certFile",
      ({ certFile }) => {
        fs.writeFileSync(certFile, half(fs.readFileSync(certFile, "utf8")));
      },
      "ends in the middle",
    ],
    [
      "the key as the certificate",
      "certFile",
      ({ certFile, keyFile }) => {
        fs.copyFileSync(keyFile, certFile);
      },
      "no certificate in PEM form in",
    ],
    [
      "the certificate as the key",
      "keyFile",
      ({ certFile, keyFile }) => {
        fs.copyFileSync(certFile, keyFile);
      },
      "no private key in PEM form in",
    ],
    [
      "a key with a passphrase",
      "keyFile",
      ({ keyFile }) => {
        encrypt(keyFile, []);
      },
      "has a passphrase, which nobody can type here",
    ],
    [
      "a key with a passphrase in the older form",
      "keyFile",
      ({ keyFile }) => {
        encrypt(keyFile, ["-traditional"]);
      },
      "has a passphrase, which nobody can type here",
    ],
  ])("names the file of %s", async (_, file, spoil, says) => {
    const standIn = await standInWithValue();
    const place = new Place();
    const tls = { caFile: place.path("ca.pem"), certFile: place.path("cert.pem"), keyFile: place.path("key.pem") };
    for (const [path, name] of [
      [tls.caFile, "ours"],
      [tls.certFile, "client"],
      [tls.keyFile, "client-key"],
    ] as const)
      fs.copyFileSync(pem(name), path);
    spoil(tls);
    const url = `https://localhost:${await secured("good", standIn)}`;
    const log = await refuses(place, vaultAt(place, url, { tls }), says);
    expect(log).toContain(tls[file as keyof typeof tls]);
    expect(standIn.asked).toEqual([]);
  });

  test("waits while the client certificate and its key do not match", async () => {
    const standIn = await standInWithValue();
    const place = new Place();
    const port = await secured("good", standIn);
    const tls = { caFile: pem("ours"), certFile: pem("client"), keyFile: pem("good-key") };
    await refuses(
      place,
      vaultAt(place, `https://localhost:${port}`, { tls }),
      "tls.certFile and tls.keyFile do not match (yet)",
    );
  });

  test("trusts an authority added to its file later, and stops trusting one removed from it", async () => {
    const standIn = await standInWithValue();
    const place = new Place();
    const caFile = place.path("ca.pem");
    fs.copyFileSync(pem("strangers"), caFile);
    const port = await secured("good", standIn);
    const config = vaultAt(place, `https://localhost:${port}`, { pollingInterval: 0.2, tls: { caFile } });
    const daemon = place.start(config);
    const put = (name: string) => {
      fs.copyFileSync(pem(name), `${caFile}.new`);
      fs.renameSync(`${caFile}.new`, caFile);
    };
    await daemon.says(/unknown authority/);
    put("ours");
    await daemon.ready();
    const from = daemon.lines.length;
    put("strangers");
    await daemon.says(/unknown authority/, from);
  });

  /** A sidecar that polls often, by a name. @param end ms after which the server closes a connection. */
  const polls = async (place: Place, answering: Answering = () => false, end = Infinity) => {
    const standIn = await standInWithValue();
    standIn.answering = answering;
    const pass = passOn(standIn.url);
    /** The connections so far. */
    const sockets: net.Socket[] = [];
    const port = await tlsListener(certificates.pair("good"), (socket) => {
      sockets.push(socket);
      pass(socket);
      if (end < Infinity) setTimeout(() => socket.end(), end);
    });
    // Without a token nobody asks for its time to live, over another connection.
    const own = { auth: { method: "none" }, tokenPath: undefined, pollingInterval: 0.2, tls: { caFile: pem("ours") } };
    const daemon = await publishes(place, vaultAt(place, `https://localhost:${port}`, own));
    const asked = async (more: number) => {
      const from = standIn.asked.length;
      await eventually(`${more} more requests`, () => standIn.asked.length >= from + more);
    };
    /** A change gets in, it ends in order, and has complained of nothing. */
    const goesOn = async () => {
      standIn.data = { id: "another" };
      await daemon.says(/^published 1/);
      expect(place.read("id")).toBe("another");
      expect(daemon.lines.filter(({ level }) => level === "warn" || level === "err")).toEqual([]);
      expect((await daemon.end()).code).toBe(0);
      await eventually("the end of its connections", () => sockets.every(({ destroyed }) => destroyed));
    };
    return { sockets, asked, goesOn };
  };

  needs("executable").test("keeps one connection for polls that are frequent, and ends with it", async () => {
    const { sockets, asked, goesOn } = await polls(new Place());
    await asked(6);
    // That of the start is closed, that of the first poll is kept.
    expect(sockets.map(({ destroyed }) => destroyed)).toEqual([true, false]);
    await goesOn();
    expect(sockets).toHaveLength(2);
  });

  needs("node").test("keeps no connection for polls, however frequent they are", async () => {
    const { sockets, asked, goesOn } = await polls(new Place());
    await asked(4);
    expect(sockets.length).toBeGreaterThanOrEqual(4);
    await goesOn();
  });

  test("connects again, and says nothing of it, where the server closes connections between polls", async () => {
    const { sockets, asked, goesOn } = await polls(new Place(), undefined, 300);
    await asked(6);
    expect(sockets.length).toBeGreaterThan(2);
    await goesOn();
  });

  test.each<readonly [string, Answering]>([
    ["closes it just as it is used again", (_, __, socket) => socket.destroy().destroyed],
    ["is sealed", (_, response) => response.writeHead(503).end('{"errors":["Vault is sealed"]}').writableEnded],
    ["says that it waited too long", (_, response) => response.writeHead(408).end().writableEnded],
    ["says that it is not for this name", (_, response) => response.writeHead(421).end().writableEnded],
    [
      "sends it away",
      (_, response) => response.writeHead(307, { location: "https://leader.test/" }).end().writableEnded,
    ],
  ])("asks once more over a new connection where the server of the last one %s", async (name, act) => {
    const requests = new Map<net.Socket, number>();
    let acted = 0;
    const { asked, goesOn } = await polls(new Place(), (...all) => {
      const count = (requests.get(all[2]) ?? 0) + 1;
      requests.set(all[2], count);
      // The start has two in one connection.
      if (count < 3) return false;
      acted += 1;
      return act(...all);
    });
    await asked(8);
    await goesOn();
    expect(acted > 0, name).toBe(!runsOnNode);
  });

  needs("executable", "python").test("gives up a kept connection that something on the way has forgotten", async () => {
    const standIn = await standInWithValue();
    const target = await tlsListener(certificates.pair("good"), passOn(standIn.url));
    const forwarder = spawn("python3", ["-c", forgetful, String(target)], { stdio: ["pipe", "pipe", "inherit"] });
    onTestFinished(() => {
      forwarder.kill("SIGKILL");
    });
    const lines: string[] = [];
    createInterface(forwarder.stdout).on("line", (line) => lines.push(line));
    await eventually("its port", () => lines.length > 0);
    const place = new Place();
    // After these it would complain.
    const times = { pollingInterval: 0.2, responseTimeout: 60, requestTimeout: 60 };
    const own = { auth: { method: "none" }, tokenPath: undefined, ...times, tls: { caFile: pem("ours") } };
    const daemon = await publishes(place, vaultAt(place, `https://localhost:${lines[0]}`, own));
    const before = standIn.asked.length;
    await eventually("some polls", () => standIn.asked.length >= before + 4);
    forwarder.stdin.write("forget\n");
    await eventually("it has forgotten", () => lines.length > 1);
    standIn.data = { id: "another" };
    await daemon.says(/^published 1/);
    expect(daemon.lines.filter(({ level }) => level === "warn" || level === "err")).toEqual([]);
  });

  test("AWS: sends no request to a server with an unknown authority, and trusts those in $NODE_EXTRA_CA_CERTS", async () => {
    const standIn = await standInWithValue();
    const place = new Place();
    const port = await secured("good", standIn);
    const [endpoint, otherName] = [`https://localhost:${port}`, `https://127.0.0.1:${port}`];
    const ours = { NODE_EXTRA_CA_CERTS: pem("ours") };
    for (const env of [awsKeys, { ...awsKeys, ...trusting }]) {
      await refuses(place, awsAt(place, endpoint), "the server's certificate is from an unknown authority", env);
      const wrong = "the server's certificate is for another name";
      await refuses(place, awsAt(place, otherName), wrong, { ...env, ...ours });
    }
    await refuses(place, awsAt(place, standIn.url.replace("http:", "https:")), "no TLS connection", awsKeys);
    expect(standIn.asked).toEqual([]);
    // It is not Secrets Manager, and says so.
    await refuses(place, awsAt(place, endpoint), "HTTP status 404", { ...awsKeys, ...ours });
    expect(standIn.asked.length).toBeGreaterThan(0);
  });
});
