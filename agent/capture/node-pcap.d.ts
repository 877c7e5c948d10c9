// What this project uses of the `pcap` package, whose own types leave out the native session.
declare module 'pcap' {
  interface NativeSession {
    /** Called when the socket is readable; runs `dispatch` until the ring is empty. */
    read_callback: () => void;
    /** Packets of the last round, 0 when the ring is empty, -1 on an error, -2 when it was closed. */
    dispatch(packet: Buffer, header: Buffer): number;
    close(): void;
    inject(frame: Buffer): void;
  }
  interface PacketWithHeader {
    buf: Buffer;
    /** Seconds, microseconds, captured length, original length: four host-order 32-bit numbers. */
    header: Buffer;
  }
  interface PcapSession {
    buf: Buffer;
    readonly header: Buffer;
    /** "LINKTYPE_ETHERNET" … or "Unknown linktype <number>" */
    readonly link_type: string;
    readonly session: NativeSession;
    on(event: 'packet', listener: (packet: PacketWithHeader) => void): this;
    removeAllListeners(): this;
    stats(): { ps_recv: number; ps_drop: number; ps_ifdrop: number };
  }
  interface SessionOptions {
    filter?: string;
    buffer_size?: number;
    snap_length?: number;
    buffer_timeout?: number;
    promiscuous?: boolean;
  }
  const pcap: {
    createSession(device: string, options: SessionOptions): PcapSession;
    lib_version: string;
    warningHandler: (message: string) => void;
  };
  export default pcap;
  export type { PcapSession };
}
