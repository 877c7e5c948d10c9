import { expect, test } from '@jest/globals';
import { distinctNames } from '../../agent/replay/names.ts';

test.each([
  [
    ['a.pcap', '/x/b.pcap', '/dev/stdin'],
    ['a.pcap', 'b.pcap', 'stdin'],
  ],
  [
    ['a/cap.pcap', 'b/cap.pcap'],
    ['a/cap.pcap', 'b/cap.pcap'],
  ],
  [
    ['/d1/x/cap.pcap', '/d2/x/cap.pcap', '/d2/y/cap.pcap'],
    ['d1/x/cap.pcap', 'd2/x/cap.pcap', 'y/cap.pcap'],
  ],
  [
    ['cap.pcap', 'cap.pcap'],
    ['cap.pcap', 'cap.pcap#2'],
  ],
  [
    ['cap.pcap', './a/cap.pcap', './cap.pcap'],
    ['cap.pcap', 'a/cap.pcap', 'cap.pcap#2'],
  ],
  [
    ['a/b.pcap', 'c/b.pcap', 'a_b.pcap'],
    ['a/b.pcap', 'c/b.pcap', 'a_b.pcap#2'],
  ],
  [
    ['stdin', '/dev/stdin'],
    ['stdin', 'stdin#2'],
  ],
])('%j are called %j', (files, names) => expect(distinctNames(files)).toEqual(names));
