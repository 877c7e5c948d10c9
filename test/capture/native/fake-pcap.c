/*
 * In libpcap's place behind native/capture.c, for a fuzzer: rings whose packets claim any lengths, calls that fail at
 * random, and a kernel whose counters make no sense. A packet has exactly the bytes that may be read of it, so that
 * AddressSanitizer sees one more.
 *
 * The seed is in FAKE_PCAP_SEED. native/capture.c is compiled with setsockopt and getsockopt renamed to those below.
 */
#include <errno.h>
#include <linux/if_packet.h>
#include <pcap/pcap.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* Packets at a time. */
#define MOST 4096

struct pcap {
  int snaplen;
  int fd;
  bool breaks;
};

/* Threads may draw at the same time. */
static atomic_uint state;

static uint32_t draw(uint32_t below) {
  if (atomic_load(&state) == 0) {
    const char *seed = getenv("FAKE_PCAP_SEED");
    atomic_store(&state, (uint32_t)strtoul(seed == NULL ? "1" : seed, NULL, 10) * 2 + 1);
  }
  uint32_t mixed = atomic_fetch_add(&state, 0x9e3779b8u);
  mixed = (mixed ^ (mixed >> 16)) * 0x85ebca6bu;
  mixed = (mixed ^ (mixed >> 13)) * 0xc2b2ae35u;
  return (mixed ^ (mixed >> 16)) % below;
}

int fake_setsockopt(int fd, int level, int option, const void *value, socklen_t length) {
  (void)fd, (void)level, (void)option, (void)value, (void)length;
  errno = EPERM;
  return draw(16) == 0 ? -1 : 0;
}

int fake_getsockopt(int fd, int level, int option, void *value, socklen_t *length) {
  (void)fd, (void)level;
  /* Few packets are in a ring when it begins, or it would give none for long. */
  const bool few = option == PACKET_STATISTICS;
  for (socklen_t at = 0; at < *length; at++) ((uint8_t *)value)[at] = (uint8_t)(few ? (at % 4 == 0 ? draw(4) : 0) : draw(256));
  errno = EPERM;
  return draw(16) == 0 ? -1 : 0;
}

pcap_t *pcap_create(const char *device, char *error) {
  if (strlen(device) > 0 && draw(16) > 0) return calloc(1, sizeof(pcap_t));
  memset(error, 'e', PCAP_ERRBUF_SIZE - 1);
  error[PCAP_ERRBUF_SIZE - 1] = 0;
  return NULL;
}

int pcap_set_snaplen(pcap_t *pcap, int snaplen) {
  pcap->snaplen = snaplen;
  return 0;
}

int pcap_set_promisc(pcap_t *pcap, int value) { return (void)pcap, value & 0; }
int pcap_set_buffer_size(pcap_t *pcap, int value) { return (void)pcap, value & 0; }
int pcap_set_timeout(pcap_t *pcap, int value) { return (void)pcap, value & 0; }

int pcap_activate(pcap_t *pcap) {
  pcap->fd = -1;
  if (draw(16) == 0) return draw(2) == 0 ? PCAP_ERROR : PCAP_ERROR_NO_SUCH_DEVICE;
  /* Always readable. */
  pcap->fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
  return (int)draw(3);
}

const char *pcap_statustostr(int status) { return status == PCAP_ERROR ? "an error" : "another error"; }
char *pcap_geterr(pcap_t *pcap) { return (void)pcap, (char *)"what libpcap says"; }
int pcap_setnonblock(pcap_t *pcap, int on, char *error) { return (void)pcap, (void)on, strcpy(error, "blocks"), draw(16) == 0 ? -1 : 0; }
int pcap_get_selectable_fd(pcap_t *pcap) { return pcap->fd; }
int pcap_datalink(pcap_t *pcap) { return (void)pcap, (int)draw(300); }
int pcap_compile(pcap_t *pcap, struct bpf_program *program, const char *text, int optimize, bpf_u_int32 mask) {
  (void)pcap, (void)optimize, (void)mask;
  program->bf_len = (u_int)strlen(text);
  program->bf_insns = malloc(8);
  if (draw(8) > 0) return 0;
  free(program->bf_insns);
  return -1;
}
void pcap_freecode(struct bpf_program *program) { free(program->bf_insns); }
int pcap_setfilter(pcap_t *pcap, struct bpf_program *program) { return (void)pcap, program->bf_insns != NULL && draw(8) > 0 ? 0 : -1; }
void pcap_breakloop(pcap_t *pcap) { pcap->breaks = true; }

void pcap_close(pcap_t *pcap) {
  if (pcap->fd >= 0) close(pcap->fd);
  free(pcap);
}

static uint32_t any_length(uint32_t snaplen) {
  const uint32_t lengths[] = {0, 1, snaplen, snaplen + 1, snaplen + 4, INT32_MAX, 1u << 31, UINT32_MAX, UINT32_MAX - 15, draw(snaplen + 1), draw(snaplen / 16 + 1)};
  return lengths[draw(sizeof lengths / sizeof *lengths)];
}

int pcap_dispatch(pcap_t *pcap, int most, pcap_handler handler, u_char *user) {
  const uint32_t snaplen = (uint32_t)pcap->snaplen;
  if (draw(16) == 0) return draw(2) == 0 ? PCAP_ERROR : 0;
  const int ready = (int)draw(64);
  const int all = most < MOST ? most : MOST;
  const int count = ready < most && draw(2) == 0 ? ready : all;
  for (int given = 0; given < count; given++) {
    if (pcap->breaks) {
      pcap->breaks = false;
      return PCAP_ERROR_BREAK;
    }
    const struct pcap_pkthdr header = {{(time_t)((uint64_t)draw(UINT32_MAX) << draw(32)), (suseconds_t)draw(UINT32_MAX)}, any_length(snaplen), any_length(snaplen)};
    const uint32_t size = header.caplen < snaplen ? header.caplen : snaplen;
    u_char *bytes = malloc(size);
    memset(bytes, 'p', size);
    handler(user, &header, bytes);
    free(bytes);
  }
  pcap->breaks = false;
  return count;
}
