/**
 * The eBPF program by which data planes hand packets to a pod past the host side of its veth: `bpf_redirect_peer`
 * (bpf-helpers(7)), as an object file (ELF, elf(5)) that tc loads. Assembled here, as there is no compiler for eBPF.
 */
const EM_BPF = 247;
const ELF_HEADER = 64;
const SECTION_HEADER = 64;
const SYMBOL = 24;

/** @param ifindex Of the host side of the receiver's veth. Its section is called `tc`. */
export function redirectPeer(ifindex: number): Buffer {
  // r1 = ifindex; r2 = 0; call 155 (bpf_redirect_peer); exit
  const program = Buffer.from('b701000000000000b702000000000000850000009b0000009500000000000000', 'hex');
  program.writeInt32LE(ifindex, 4);
  const strings = Buffer.from('\0tc\0bypass\0.symtab\0.strtab\0license\0', 'latin1');
  const nameOf = (name: string): number => strings.indexOf(`\0${name}\0`) + 1;
  const symbols = Buffer.alloc(2 * SYMBOL);
  symbols.writeUInt32LE(nameOf('bypass'), SYMBOL);
  // A global function, in section 1.
  symbols.writeUInt8(0x12, SYMBOL + 4);
  symbols.writeUInt16LE(1, SYMBOL + 6);
  symbols.writeBigUInt64LE(BigInt(program.length), SYMBOL + 16);
  const license = Buffer.from('Apache-2.0\0', 'latin1');
  const [PROGBITS, SYMTAB, STRTAB] = [1, 2, 3];
  const sections = [
    { name: 'tc', type: PROGBITS, flags: 6, data: program, link: 0, info: 0, align: 8, entry: 0 },
    { name: '.symtab', type: SYMTAB, flags: 0, data: symbols, link: 3, info: 1, align: 8, entry: SYMBOL },
    { name: '.strtab', type: STRTAB, flags: 0, data: strings, link: 0, info: 0, align: 1, entry: 0 },
    { name: 'license', type: PROGBITS, flags: 3, data: license, link: 0, info: 0, align: 1, entry: 0 },
  ];
  let offset = ELF_HEADER;
  const headers = [Buffer.alloc(SECTION_HEADER)];
  for (const { name, type, flags, data, link, info, align, entry } of sections) {
    const header = Buffer.alloc(SECTION_HEADER);
    header.writeUInt32LE(nameOf(name), 0);
    header.writeUInt32LE(type, 4);
    for (const [at, value] of [
      [8, flags],
      [24, offset],
      [32, data.length],
      [48, align],
      [56, entry],
    ] as const)
      header.writeBigUInt64LE(BigInt(value), at);
    header.writeUInt32LE(link, 40);
    header.writeUInt32LE(info, 44);
    headers.push(header);
    offset += data.length;
  }
  const head = Buffer.alloc(ELF_HEADER);
  head.write('\x7fELF\x02\x01\x01', 'latin1');
  head.writeUInt16LE(1, 16);
  head.writeUInt16LE(EM_BPF, 18);
  head.writeUInt32LE(1, 20);
  head.writeBigUInt64LE(BigInt(offset), 40);
  head.writeUInt16LE(ELF_HEADER, 52);
  head.writeUInt16LE(SECTION_HEADER, 58);
  head.writeUInt16LE(headers.length, 60);
  head.writeUInt16LE(3, 62);
  return Buffer.concat([head, ...sections.map(({ data }) => data), ...headers]);
}
