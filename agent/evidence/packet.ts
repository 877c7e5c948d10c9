/** A packet of a flow, as it was on the wire: what evidence keeps, and what the protocol of an alert is read from. */
export interface FlowPacket {
  /** microseconds since 1970 */
  readonly time: number;
  /** the frame as captured, from the link layer on, without the agent's tag */
  readonly frame: Uint8Array;
  /** its length on the wire, bytes */
  readonly length: number;
  /** the pcap link type of the frame, e.g. 1 for Ethernet */
  readonly linkType: number;
  /** as a block of a capture file, of which the frame is a part (capture/packet-block.ts) */
  readonly block?: Buffer;
}
