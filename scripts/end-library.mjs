// Makes the shared library that ends the process at once with a status: what Node before 22.15 lacks (src/runtime/end.ts).
// It is one function of a few instructions, which the dynamic linker calls when the library is loaded, so that it needs
// no compiler, no C library and no headers: exit_group(umask(0)). The status comes by the umask, since nothing else of a
// process can be set by JavaScript and read by a system call.

/** process.arch → number of the machine (elf.h: EM_X86_64, EM_AARCH64), and the instructions. */
const machines = {
  x64: {
    machine: 62,
    code: [
      [0x31, 0xff], // xor edi, edi
      [0xb8, 95, 0, 0, 0], // mov eax, __NR_umask
      [0x0f, 0x05], // syscall
      [0x89, 0xc7], // mov edi, eax
      [0xb8, 231, 0, 0, 0], // mov eax, __NR_exit_group
      [0x0f, 0x05], // syscall
    ],
  },
  arm64: {
    machine: 183,
    code: [
      [0x00, 0x00, 0x80, 0xd2], // mov x0, #0
      [0xc8, 0x14, 0x80, 0xd2], // mov x8, #166, __NR_umask
      [0x01, 0x00, 0x00, 0xd4], // svc #0
      [0xc8, 0x0b, 0x80, 0xd2], // mov x8, #94, __NR_exit_group
      [0x01, 0x00, 0x00, 0xd4], // svc #0
    ],
  },
};

export const endLibraryArchitectures = Object.keys(machines);

/** Where each part lies in the file. What is written to when it is loaded has a page of its own, of 64 KiB at most. */
const at = { headers: 0x40, code: 0x120, symbols: 0x140, strings: 0x158, hash: 0x160, dynamic: 0x180, end: 0x1f0 };
const PAGE = 0x10000;

/** elf.h: PT_*, PF_*, DT_*. */
const [LOAD, DYNAMIC, GNU_STACK] = [1, 2, 0x6474e551];
const [EXECUTE, WRITE, READ] = [1, 2, 4];
const tags = { HASH: 4, STRTAB: 5, SYMTAB: 6, STRSZ: 10, SYMENT: 11, INIT: 12, NULL: 0 };

/** @returns the file's bytes. */
export function endLibrary(architecture) {
  const { machine, code } = machines[architecture];
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
    // Without it, a stack that can be executed would be asked for.
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
  file.set(code.flat(), at.code);
  // One bucket, and one symbol, which every table of symbols has: none.
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
