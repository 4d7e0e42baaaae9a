// Makes the three shared libraries for calls that Node lacks. Each is one function of a few instructions, which the
// dynamic linker calls when it loads the library, so that it needs no compiler, no C library and no headers. The umask
// carries a number in and out: JavaScript can set nothing else of a process that a system call can read.
//
//   end   ends the process at once: exit_group(umask(0)). Node before 22.15 has no call for it (src/runtime/end.ts).
//   hide  closes this process's /proc/PID to others of the same user: prctl(PR_SET_DUMPABLE, 0) (src/runtime/platform.ts).
//   lock  takes the lock of an open file: umask(0400 | -flock(umask(0), LOCK_EX | LOCK_NB)) (src/runtime/platform.ts).

/** process.arch → number of the machine (elf.h: EM_X86_64, EM_AARCH64). */
const machines = { x64: 62, arm64: 183 };

/** Name of the library → process.arch → its instructions. */
const instructions = {
  end: {
    x64: [
      [0x31, 0xff], // xor edi, edi
      [0xb8, 95, 0, 0, 0], // mov eax, __NR_umask
      [0x0f, 0x05], // syscall
      [0x89, 0xc7], // mov edi, eax
      [0xb8, 231, 0, 0, 0], // mov eax, __NR_exit_group
      [0x0f, 0x05], // syscall
    ],
    arm64: [
      [0x00, 0x00, 0x80, 0xd2], // mov x0, #0
      [0xc8, 0x14, 0x80, 0xd2], // mov x8, #166, __NR_umask
      [0x01, 0x00, 0x00, 0xd4], // svc #0
      [0xc8, 0x0b, 0x80, 0xd2], // mov x8, #94, __NR_exit_group
      [0x01, 0x00, 0x00, 0xd4], // svc #0
    ],
  },
  hide: {
    x64: [
      [0xbf, 4, 0, 0, 0], // mov edi, PR_SET_DUMPABLE
      [0x31, 0xf6], // xor esi, esi
      [0xb8, 157, 0, 0, 0], // mov eax, __NR_prctl
      [0x0f, 0x05], // syscall
      [0xc3], // ret
    ],
    arm64: [
      [0x80, 0x00, 0x80, 0xd2], // mov x0, #4, PR_SET_DUMPABLE
      [0x01, 0x00, 0x80, 0xd2], // mov x1, #0
      [0xe8, 0x14, 0x80, 0xd2], // mov x8, #167, __NR_prctl
      [0x01, 0x00, 0x00, 0xd4], // svc #0
      [0xc0, 0x03, 0x5f, 0xd6], // ret
    ],
  },
  lock: {
    x64: [
      [0x31, 0xff], // xor edi, edi
      [0xb8, 95, 0, 0, 0], // mov eax, __NR_umask
      [0x0f, 0x05], // syscall
      [0x89, 0xc7], // mov edi, eax
      [0xbe, 6, 0, 0, 0], // mov esi, LOCK_EX | LOCK_NB
      [0xb8, 73, 0, 0, 0], // mov eax, __NR_flock
      [0x0f, 0x05], // syscall
      [0xf7, 0xd8], // neg eax
      [0x0d, 0x00, 0x01, 0, 0], // or eax, 0400: it has run
      [0x89, 0xc7], // mov edi, eax
      [0xb8, 95, 0, 0, 0], // mov eax, __NR_umask
      [0x0f, 0x05], // syscall
      [0xc3], // ret
    ],
    arm64: [
      [0x00, 0x00, 0x80, 0xd2], // mov x0, #0
      [0xc8, 0x14, 0x80, 0xd2], // mov x8, #166, __NR_umask
      [0x01, 0x00, 0x00, 0xd4], // svc #0
      [0xc1, 0x00, 0x80, 0xd2], // mov x1, #6, LOCK_EX | LOCK_NB
      [0x08, 0x04, 0x80, 0xd2], // mov x8, #32, __NR_flock
      [0x01, 0x00, 0x00, 0xd4], // svc #0
      [0xe0, 0x03, 0x00, 0x4b], // neg w0, w0
      [0x00, 0x00, 0x18, 0x32], // orr w0, w0, #0x100: it has run
      [0xc8, 0x14, 0x80, 0xd2], // mov x8, #166, __NR_umask
      [0x01, 0x00, 0x00, 0xd4], // svc #0
      [0xc0, 0x03, 0x5f, 0xd6], // ret
    ],
  },
};

/**
 * Where each part lies in the file. The part that is written to at load time has its own page, of 64 KiB at most.
 */
const at = { headers: 0x40, code: 0x120, symbols: 0x150, strings: 0x168, hash: 0x170, dynamic: 0x190, end: 0x200 };
const PAGE = 0x10000;

/** elf.h: PT_*, PF_*, DT_*. */
const [LOAD, DYNAMIC, GNU_STACK] = [1, 2, 0x6474e551];
const [EXECUTE, WRITE, READ] = [1, 2, 4];
const tags = { HASH: 4, STRTAB: 5, SYMTAB: 6, STRSZ: 10, SYMENT: 11, INIT: 12, NULL: 0 };

/** @returns file name → its bytes. */
export function nativeLibraries() {
  return new Map(
    Object.entries(instructions).flatMap(([name, codes]) =>
      Object.entries(codes).map(([architecture, code]) => [
        `${name}-${architecture}.node`,
        library(machines[architecture], Buffer.from(code.flat())),
      ]),
    ),
  );
}

function library(machine, code) {
  const file = Buffer.alloc(at.end);
  // ELFCLASS64, ELFDATA2LSB, EV_CURRENT; ET_DYN.
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1], 0);
  file.writeUInt16LE(3, 16);
  file.writeUInt16LE(machine, 18);
  file.writeUInt32LE(1, 20);
  file.writeBigUInt64LE(BigInt(at.headers), 32);
  // e_ehsize, e_phentsize, e_phnum, e_shentsize
  [64, 56, 4, 64].forEach((value, index) => file.writeUInt16LE(value, 52 + 2 * index));
  const dynamic = [at.dynamic, PAGE + at.dynamic, at.end - at.dynamic];
  const headers = [
    [LOAD, READ | EXECUTE, 0, 0, at.dynamic, PAGE],
    [LOAD, READ | WRITE, ...dynamic, PAGE],
    [DYNAMIC, READ | WRITE, ...dynamic, 8],
    // Without it, the loader would ask for a stack that can be executed.
    [GNU_STACK, READ | WRITE, 0, 0, 0, 16],
  ];
  headers.forEach(([type, flags, offset, address, size, alignment], index) => {
    const header = at.headers + 56 * index;
    file.writeUInt32LE(type, header);
    file.writeUInt32LE(flags, header + 4);
    [offset, address, address, size, size, alignment].forEach((value, field) =>
      file.writeBigUInt64LE(BigInt(value), header + 8 + 8 * field),
    );
  });
  file.set(code, at.code);
  // One bucket and one symbol: the empty one, which every table of symbols has.
  file.set([1, 0, 0, 0, 1], at.hash);
  const entries = [
    [tags.HASH, at.hash],
    [tags.SYMTAB, at.symbols],
    [tags.STRTAB, at.strings],
    [tags.STRSZ, 1],
    [tags.SYMENT, 24],
    [tags.INIT, at.code],
    [tags.NULL, 0],
  ];
  entries.flat().forEach((value, index) => file.writeBigUInt64LE(BigInt(value), at.dynamic + 8 * index));
  return file;
}
