/*
 * Mechanics of the capture that Node has no call for: rings of packets by libpcap, in any network namespace; an arena
 * that they are copied into; FIFOs. Interprets no byte of a packet: that is TypeScript's, in the arena. agent/native.ts
 * says what each call does.
 *
 * A ring is known by its slot, a small number, and every argument is checked, so that no call can reach memory that is
 * not its own. Opening and closing take milliseconds, so threads do it; all else happens in the thread that calls.
 *
 * A ring is replaced by a larger one without a packet lost or given twice: both are members of one fanout group of the
 * kernel (packet(7), PACKET_FANOUT_CBPF), whose program says which of them a packet goes to, and is exchanged between
 * two packets.
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/limits.h>
#include <net/if.h>
#include <node_api.h>
#include <pcap/pcap.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* More than endpoints that a lane can have, each with a successor. */
#define RINGS 16384
#define RECORD_HEADER 16
#define MAX_ROOM 64
#define MAX_ARGS 8
#define MAX_ARENA (256u << 20)
#define TEXT 512

enum { EMPTY, MORE, FAILED };

typedef struct {
  pcap_t *pcap;
  int fd;
  uint32_t slot, snaplen;
  /* Packets that came before it began. */
  uint64_t skip;
  uint64_t received, dropped, delivered;
} ring_t;

typedef struct {
  ring_t *rings[RINGS];
  uint8_t *ready;
  napi_ref reference;
  int epoll;
  napi_threadsafe_function wake;
  atomic_bool waking;
} instance_t;

typedef struct {
  uint8_t *data;
  size_t length;
} bytes_t;

typedef struct {
  napi_async_work work;
  napi_deferred deferred;
  instance_t *instance;
  int slot;
  ring_t *ring;
  /* A duplicate of a socket of the group, or -1: its ring may be closed meanwhile. */
  int before;
  char device[IFNAMSIZ], netns[PATH_MAX];
  char *filter;
  uint32_t snaplen, size, timeout;
  bool promiscuous;
  int link, ifindex;
  char error[TEXT];
} job_t;

static napi_value fail(napi_env env, const char *what, int code) {
  char text[TEXT];
  snprintf(text, sizeof text, "%s%s%s", what, code == 0 ? "" : ": ", code == 0 ? "" : strerror(code));
  /* Does nothing where an exception is pending. */
  napi_throw_error(env, NULL, text);
  return NULL;
}

/* Stands in a slot while its ring is being opened or closed. */
static ring_t taken;

/* A whole number up to `most`; anything else throws. */
static bool get_number(napi_env env, napi_value value, uint32_t most, uint32_t *out) {
  double number;
  if (napi_get_value_double(env, value, &number) != napi_ok || !(number >= 0 && number <= most) || number != (uint32_t)number)
    return fail(env, "a number is not one, or out of range", 0);
  *out = (uint32_t)number;
  return true;
}

static bool get_bytes(napi_env env, napi_value value, bytes_t *out) {
  bool is = false;
  if (napi_is_buffer(env, value, &is) == napi_ok && is && napi_get_buffer_info(env, value, (void **)&out->data, &out->length) == napi_ok)
    return true;
  return fail(env, "not a buffer", 0);
}

/* A text without zero bytes that fits `size`, its end included. */
static bool get_text(napi_env env, napi_value value, char *out, size_t size) {
  size_t length;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &length) == napi_ok && length < size &&
      napi_get_value_string_utf8(env, value, out, size, &length) == napi_ok && strlen(out) == length)
    return true;
  return fail(env, "a text is not one, or too long", 0);
}

static instance_t *get_instance(napi_env env) {
  instance_t *instance = NULL;
  napi_get_instance_data(env, (void **)&instance);
  return instance;
}

static bool get_ring(napi_env env, napi_value value, ring_t **out) {
  uint32_t slot;
  if (!get_number(env, value, RINGS - 1, &slot)) return false;
  *out = get_instance(env)->rings[slot];
  return (*out != NULL && *out != &taken) || fail(env, "there is no such ring", 0);
}

/*
 * Reads a call's arguments; throws where one is not as it should be. For each letter of `kinds` there are parameters:
 * n: a number's greatest value, uint32_t *. b: bytes_t *. r: ring_t **, of its slot. t: char *, its size. v: napi_value *,
 * of any kind.
 */
static bool get(napi_env env, napi_callback_info info, const char *kinds, ...) {
  napi_value args[MAX_ARGS];
  size_t found = MAX_ARGS;
  bool valid = (napi_get_cb_info(env, info, &found, args, NULL, NULL) == napi_ok && found >= strlen(kinds)) || fail(env, "too few arguments", 0);
  va_list to;
  va_start(to, kinds);
  for (size_t index = 0; valid && kinds[index] != 0; index++) {
    const napi_value value = args[index];
    if (kinds[index] == 'n') {
      const uint32_t most = va_arg(to, uint32_t);
      valid = get_number(env, value, most, va_arg(to, uint32_t *));
    } else if (kinds[index] == 't') {
      char *const text = va_arg(to, char *);
      valid = get_text(env, value, text, va_arg(to, size_t));
    } else if (kinds[index] == 'b') valid = get_bytes(env, value, va_arg(to, bytes_t *));
    else if (kinds[index] == 'r') valid = get_ring(env, value, va_arg(to, ring_t **));
    else *va_arg(to, napi_value *) = value;
  }
  va_end(to);
  return valid;
}

static napi_value number(napi_env env, double value) {
  napi_value result;
  return napi_create_double(env, value, &result) == napi_ok ? result : NULL;
}

/* Rings */

static bool attach_filter(int fd, uint32_t verdict, int level, int option) {
  struct sock_filter code = BPF_STMT(BPF_RET | BPF_K, verdict);
  struct sock_fprog program = {1, &code};
  return setsockopt(fd, level, option, &program, sizeof program) == 0;
}

/* To which member of its group a packet goes. When it returns, none is under way to another one. */
static bool direct_to(int fd, uint32_t member) {
  return attach_filter(fd, member, SOL_PACKET, PACKET_FANOUT_DATA);
}

static bool join_group(ring_t *ring, int before) {
  uint32_t group = (PACKET_FANOUT_CBPF | PACKET_FANOUT_FLAG_UNIQUEID) << 16;
  if (before >= 0) {
    socklen_t length = sizeof group;
    if (getsockopt(before, SOL_PACKET, PACKET_FANOUT, &group, &length) != 0) return false;
    group = (group & 0xffff) | PACKET_FANOUT_CBPF << 16;
  }
  return setsockopt(ring->fd, SOL_PACKET, PACKET_FANOUT, &group, sizeof group) == 0;
}

/* The kernel's counters begin anew with each call. */
static void read_statistics(ring_t *ring) {
  struct tpacket_stats_v3 stats = {0};
  socklen_t length = sizeof stats;
  if (getsockopt(ring->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &length) != 0) return;
  ring->received += stats.tp_packets;
  ring->dropped += stats.tp_drops;
}

static bool fail_job(job_t *job, const char *what, const char *why) {
  snprintf(job->error, sizeof job->error, "%s%s%s", what, *why == 0 ? "" : ": ", why);
  return false;
}

static bool activate(job_t *job, pcap_t *pcap) {
  pcap_set_snaplen(pcap, (int)job->snaplen);
  pcap_set_promisc(pcap, job->promiscuous);
  pcap_set_buffer_size(pcap, (int)job->size);
  pcap_set_timeout(pcap, (int)job->timeout);
  const int status = pcap_activate(pcap);
  return status >= 0 || fail_job(job, pcap_statustostr(status), status == PCAP_ERROR ? pcap_geterr(pcap) : "");
}

static bool set_filter(job_t *job, ring_t *ring) {
  struct bpf_program program;
  if (*job->filter == 0) {
    const int unused = 0;
    return setsockopt(ring->fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused) == 0 || errno == ENOENT || fail_job(job, "filter", strerror(errno));
  }
  if (pcap_compile(ring->pcap, &program, job->filter, 1, PCAP_NETMASK_UNKNOWN) != 0) return fail_job(job, "filter", pcap_geterr(ring->pcap));
  /* libpcap's own call also filters what is in the ring, and counted. But it alone knows headers that are made up. */
  const bool made = job->link == DLT_LINUX_SLL || job->link == DLT_LINUX_SLL2;
  const struct sock_fprog code = {(unsigned short)program.bf_len, (struct sock_filter *)program.bf_insns};
  const bool set = made ? pcap_setfilter(ring->pcap, &program) == 0 : setsockopt(ring->fd, SOL_SOCKET, SO_ATTACH_FILTER, &code, sizeof code) == 0;
  pcap_freecode(&program);
  return set || fail_job(job, "filter", made ? pcap_geterr(ring->pcap) : strerror(errno));
}

/*
 * What came until now is not wanted, and from a moment on that lies between two packets, they go to this ring in place
 * of the one before it.
 */
static bool begin(job_t *job, ring_t *ring) {
  const bool follows = job->before >= 0;
  /* First by a filter, then as a member that nothing is directed to. */
  if (!attach_filter(ring->fd, 0, SOL_SOCKET, SO_ATTACH_FILTER)) return fail_job(job, "filter", strerror(errno));
  if (follows && (!direct_to(job->before, 0) || !join_group(ring, job->before) || !direct_to(ring->fd, 0)))
    return fail_job(job, "cannot follow another ring", strerror(errno));
  read_statistics(ring);
  ring->skip = ring->received - ring->dropped;
  ring->received = ring->dropped = 0;
  if (!set_filter(job, ring)) return false;
  if (follows) return direct_to(ring->fd, 1) || fail_job(job, "cannot follow another ring", strerror(errno));
  /* Without a group it can't be replaced, and is used as it is. */
  join_group(ring, -1);
  return true;
}

static void *open_ring(void *data) {
  job_t *job = data;
  if (*job->netns != 0) {
    const int netns = open(job->netns, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    const bool entered = (netns >= 0 && setns(netns, CLONE_NEWNET) == 0) || fail_job(job, "cannot enter the network namespace", strerror(errno));
    if (netns >= 0) close(netns);
    if (!entered) return NULL;
  }
  char error[PCAP_ERRBUF_SIZE] = "";
  pcap_t *pcap = pcap_create(job->device, error);
  ring_t *ring = calloc(1, sizeof *ring);
  bool opened = (pcap != NULL && ring != NULL) || fail_job(job, "cannot open", error);
  opened = opened && activate(job, pcap);
  if (opened) {
    ring->pcap = pcap;
    ring->snaplen = job->snaplen;
    ring->fd = pcap_get_selectable_fd(pcap);
    struct ifreq request = {0};
    memcpy(request.ifr_name, job->device, sizeof request.ifr_name);
    if (ioctl(ring->fd, SIOCGIFINDEX, &request) == 0) job->ifindex = request.ifr_ifindex;
    job->link = pcap_datalink(pcap);
    opened = pcap_setnonblock(pcap, 1, error) == 0 || fail_job(job, "cannot be read without waiting", error);
  }
  if (opened && begin(job, ring)) return job->ring = ring, NULL;
  if (pcap != NULL) pcap_close(pcap);
  free(ring);
  return NULL;
}

static void execute_open(napi_env env, void *data) {
  job_t *job = data;
  pthread_t thread;
  /* A thread of its own: the namespace that it enters ends with it. */
  if (pthread_create(&thread, NULL, open_ring, job) == 0) pthread_join(thread, NULL);
  else fail_job(job, "cannot start a thread", "");
}

static void end_job(napi_env env, job_t *job) {
  if (job->work != NULL) napi_delete_async_work(env, job->work);
  if (job->before >= 0) close(job->before);
  free(job->filter);
  free(job);
}

static void complete_open(napi_env env, napi_status status, void *data) {
  job_t *job = data;
  napi_value result;
  if (status == napi_ok && job->ring != NULL) {
    job->ring->slot = (uint32_t)job->slot;
    job->instance->rings[job->slot] = job->ring;
    struct epoll_event event = {EPOLLIN | EPOLLONESHOT, {.u32 = (uint32_t)job->slot}};
    if (job->instance->epoll >= 0) epoll_ctl(job->instance->epoll, EPOLL_CTL_ADD, job->ring->fd, &event);
    napi_create_object(env, &result);
    napi_set_named_property(env, result, "slot", number(env, job->slot));
    napi_set_named_property(env, result, "link", number(env, job->link));
    napi_set_named_property(env, result, "ifindex", number(env, job->ifindex));
    napi_resolve_deferred(env, job->deferred, result);
  } else {
    napi_value text;
    job->instance->rings[job->slot] = NULL;
    napi_create_string_utf8(env, job->error, NAPI_AUTO_LENGTH, &text);
    napi_create_error(env, NULL, text, &result);
    napi_reject_deferred(env, job->deferred, result);
  }
  end_job(env, job);
}

static job_t *new_job(napi_env env) {
  job_t *job = calloc(1, sizeof *job);
  if (job == NULL) return fail(env, "no memory", 0), NULL;
  job->instance = get_instance(env);
  job->before = -1;
  return job;
}

static int free_slot(instance_t *instance) {
  int slot = 0;
  while (slot < RINGS && instance->rings[slot] != NULL) slot++;
  return slot < RINGS ? slot : -1;
}

static napi_value start_job(napi_env env, job_t *job, napi_async_execute_callback execute, napi_async_complete_callback complete) {
  napi_value promise, name;
  napi_create_string_utf8(env, "capture", NAPI_AUTO_LENGTH, &name);
  if (napi_create_promise(env, &job->deferred, &promise) == napi_ok &&
      napi_create_async_work(env, NULL, name, execute, complete, job, &job->work) == napi_ok && napi_queue_async_work(env, job->work) == napi_ok)
    return promise;
  end_job(env, job);
  return fail(env, "cannot start", 0);
}

/* open(device, netns, snaplen, size, timeout, promiscuous, filter, before): a promise of {slot, link, ifindex}. */
static napi_value open_call(napi_env env, napi_callback_info info) {
  napi_value promiscuous, filter, replaced;
  job_t *job = new_job(env);
  size_t length = 0;
  double before = -1;
  ring_t *ring;
  if (job == NULL) return NULL;
  bool valid = get(env, info, "ttnnnvvv", job->device, sizeof job->device, job->netns, sizeof job->netns, 1 << 18, &job->snaplen, 1 << 30,
                   &job->size, 60000, &job->timeout, &promiscuous, &filter, &replaced) &&
               napi_get_value_bool(env, promiscuous, &job->promiscuous) == napi_ok &&
               napi_get_value_string_utf8(env, filter, NULL, 0, &length) == napi_ok && length < 65536 &&
               (job->filter = calloc(1, length + 1)) != NULL && get_text(env, filter, job->filter, length + 1) &&
               napi_get_value_double(env, replaced, &before) == napi_ok;
  if (valid && before != -1) valid = get_ring(env, replaced, &ring) && (job->before = fcntl(ring->fd, F_DUPFD_CLOEXEC, 0)) >= 0;
  job->slot = valid ? free_slot(job->instance) : -1;
  if (job->slot < 0) {
    end_job(env, job);
    return fail(env, valid ? "too many rings" : "wrong arguments", 0);
  }
  job->instance->rings[job->slot] = &taken;
  return start_job(env, job, execute_open, complete_open);
}

typedef struct {
  ring_t *ring;
  uint8_t *at, *end;
  uint32_t room, packets;
  bool full;
} filling_t;

static void copy_record(u_char *user, const struct pcap_pkthdr *header, const u_char *bytes) {
  filling_t *filling = (filling_t *)user;
  ring_t *ring = filling->ring;
  /* A library that does not stop when it is asked to shall not write on. */
  if (filling->full) return;
  if (ring->skip > 0 && ring->skip-- > 0) return;
  ring->delivered++;
  const uint32_t captured = header->caplen <= ring->snaplen ? header->caplen : ring->snaplen;
  const uint32_t record[4] = {(uint32_t)header->ts.tv_sec, (uint32_t)header->ts.tv_usec, captured, header->len};
  memcpy(filling->at, record, sizeof record);
  memcpy(filling->at + RECORD_HEADER + filling->room, bytes, captured);
  filling->at += RECORD_HEADER + filling->room + captured;
  filling->packets++;
  if ((size_t)(filling->end - filling->at) >= RECORD_HEADER + filling->room + ring->snaplen) return;
  filling->full = true;
  pcap_breakloop(ring->pcap);
}

/* fill(slot, arena, from, to, packets, room, state): where the records end. */
static napi_value fill(napi_env env, napi_callback_info info) {
  uint32_t from, to, packets, room;
  bytes_t arena, state;
  ring_t *ring;
  if (!get(env, info, "rbnnnnb", &ring, &arena, MAX_ARENA, &from, MAX_ARENA, &to, 1 << 20, &packets, MAX_ROOM, &room, &state)) return NULL;
  if (from > to || to > arena.length || packets == 0 || state.length < 8) return fail(env, "wrong arguments", 0);
  uint32_t result[2] = {0, MORE};
  filling_t filling = {ring, arena.data + from, arena.data + to, room, 0, false};
  if (to - from >= RECORD_HEADER + room + ring->snaplen) {
    const int status = pcap_dispatch(ring->pcap, (int)packets, copy_record, (u_char *)&filling);
    result[0] = filling.packets;
    if (status == PCAP_ERROR) result[1] = FAILED;
    else if (!filling.full && status >= 0 && (uint32_t)status < packets) result[1] = EMPTY;
  }
  memcpy(state.data, result, sizeof result);
  return number(env, (double)(filling.at - arena.data));
}

/* statistics(slot, out) */
static napi_value statistics(napi_env env, napi_callback_info info) {
  bytes_t out;
  ring_t *ring;
  if (!get(env, info, "rb", &ring, &out)) return NULL;
  if (out.length < 3 * sizeof(double)) return fail(env, "wrong arguments", 0);
  read_statistics(ring);
  memcpy(out.data, (double[]){(double)ring->received, (double)ring->dropped, (double)ring->delivered}, 3 * sizeof(double));
  return NULL;
}

/* mute(slot): it gets no further packet. What it has can be read. */
static napi_value mute(napi_env env, napi_callback_info info) {
  ring_t *ring;
  if (!get(env, info, "r", &ring)) return NULL;
  return attach_filter(ring->fd, 0, SOL_SOCKET, SO_ATTACH_FILTER) ? NULL : fail(env, "cannot be muted", errno);
}

static void execute_close(napi_env env, void *data) {
  job_t *job = data;
  pcap_close(job->ring->pcap);
  free(job->ring);
}

static void complete_close(napi_env env, napi_status status, void *data) {
  job_t *job = data;
  job->instance->rings[job->slot] = NULL;
  napi_resolve_deferred(env, job->deferred, number(env, job->slot));
  end_job(env, job);
}

/* close(slot): a promise of it. The slot is nobody's from now on. */
static napi_value close_call(napi_env env, napi_callback_info info) {
  ring_t *ring;
  job_t *job = get(env, info, "r", &ring) ? new_job(env) : NULL;
  if (job == NULL) return NULL;
  job->slot = (int)ring->slot;
  job->ring = ring;
  job->instance->rings[job->slot] = &taken;
  if (job->instance->epoll >= 0) epoll_ctl(job->instance->epoll, EPOLL_CTL_DEL, ring->fd, NULL);
  return start_job(env, job, execute_close, complete_close);
}

/* Waking up */

static void call_back(napi_env env, napi_value callback, void *context, void *data) {
  instance_t *instance = context;
  napi_value undefined;
  atomic_store(&instance->waking, false);
  if (env == NULL || callback == NULL) return;
  napi_get_undefined(env, &undefined);
  napi_call_function(env, undefined, callback, 0, NULL, NULL);
}

static void *wait_for_rings(void *data) {
  instance_t *instance = data;
  struct epoll_event events[64];
  for (;;) {
    const int count = epoll_wait(instance->epoll, events, 64, -1);
    for (int index = 0; index < count; index++) atomic_store((atomic_uchar *)instance->ready + events[index].data.u32, 1);
    if (count > 0 && !atomic_exchange(&instance->waking, true) &&
        napi_call_threadsafe_function(instance->wake, NULL, napi_tsfn_nonblocking) != napi_ok)
      return NULL;
  }
}

/* wake(callback): the bytes of slots whose rings have packets, or failed; rearm(slot) asks anew. Once. */
static napi_value wake(napi_env env, napi_callback_info info) {
  napi_value callback, name, ready;
  instance_t *instance = get_instance(env);
  pthread_t thread;
  if (!get(env, info, "v", &callback) || instance->epoll >= 0) return fail(env, "called before", 0);
  napi_create_string_utf8(env, "capture", NAPI_AUTO_LENGTH, &name);
  if (napi_create_threadsafe_function(env, callback, NULL, name, 0, 1, NULL, NULL, instance, call_back, &instance->wake) != napi_ok ||
      napi_create_buffer(env, RINGS, (void **)&instance->ready, &ready) != napi_ok)
    return fail(env, "not a function", 0);
  napi_unref_threadsafe_function(env, instance->wake);
  memset(instance->ready, 0, RINGS);
  /* It lives as long as the thread, which is to say always. */
  napi_create_reference(env, ready, 1, &instance->reference);
  instance->epoll = epoll_create1(EPOLL_CLOEXEC);
  if (instance->epoll < 0 || pthread_create(&thread, NULL, wait_for_rings, instance) != 0) return fail(env, "cannot start a thread", errno);
  pthread_detach(thread);
  return ready;
}

static napi_value rearm(napi_env env, napi_callback_info info) {
  ring_t *ring;
  if (!get(env, info, "r", &ring)) return NULL;
  struct epoll_event event = {EPOLLIN | EPOLLONESHOT, {.u32 = ring->slot}};
  const int epoll = get_instance(env)->epoll;
  const bool set = epoll_ctl(epoll, EPOLL_CTL_MOD, ring->fd, &event) == 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, ring->fd, &event) == 0;
  return set ? NULL : fail(env, "epoll_ctl", errno);
}

/* The arena and FIFOs */

static void unmap(napi_env env, void *data, void *hint) {
  munmap(data, (size_t)(uintptr_t)hint);
}

/* arena(bytes): a buffer of whole pages of memory. */
static napi_value arena(napi_env env, napi_callback_info info) {
  napi_value result;
  uint32_t bytes;
  if (!get(env, info, "n", MAX_ARENA, &bytes)) return NULL;
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return fail(env, "no memory", errno);
  /* A copy on write would leave the FIFO with pages that are not ours. */
  madvise(memory, bytes, MADV_DONTFORK);
  if (napi_create_external_buffer(env, bytes, memory, unmap, (void *)(uintptr_t)bytes, &result) == napi_ok) return result;
  munmap(memory, bytes);
  return fail(env, "no buffer", 0);
}

/* renew(arena): gives it other pages, of zeros. What a FIFO was given stays as it was there. */
static napi_value renew(napi_env env, napi_callback_info info) {
  bytes_t arena;
  if (!get(env, info, "b", &arena)) return NULL;
  if ((((uintptr_t)arena.data | arena.length) & (size_t)(sysconf(_SC_PAGESIZE) - 1)) != 0) return fail(env, "wrong arguments", 0);
  return madvise(arena.data, arena.length, MADV_DONTNEED) == 0 ? NULL : fail(env, "madvise", errno);
}

/* splice(fd, arena, from, to): how many bytes it took, or -errno. */
static napi_value splice_call(napi_env env, napi_callback_info info) {
  uint32_t fd, from, to;
  bytes_t arena;
  if (!get(env, info, "nbnn", INT32_MAX, &fd, &arena, MAX_ARENA, &from, MAX_ARENA, &to)) return NULL;
  if (from > to || to > arena.length) return fail(env, "wrong arguments", 0);
  const struct iovec piece = {arena.data + from, to - from};
  const ssize_t done = vmsplice((int)fd, &piece, 1, SPLICE_F_NONBLOCK);
  return number(env, done < 0 ? -errno : (double)done);
}

/* pending(fd): bytes in a FIFO that were not read. */
static napi_value pending(napi_env env, napi_callback_info info) {
  uint32_t fd;
  int bytes = 0;
  if (!get(env, info, "n", INT32_MAX, &fd)) return NULL;
  return ioctl((int)fd, FIONREAD, &bytes) == 0 ? number(env, bytes) : fail(env, "FIONREAD", errno);
}

/* widen(fd, bytes): gives a FIFO room for so many, if it may. What it has then. */
static napi_value widen(napi_env env, napi_callback_info info) {
  uint32_t fd, bytes;
  if (!get(env, info, "nn", INT32_MAX, &fd, 1 << 30, &bytes)) return NULL;
  fcntl((int)fd, F_SETPIPE_SZ, (int)bytes);
  const int size = fcntl((int)fd, F_GETPIPE_SZ);
  return size < 0 ? fail(env, "not a FIFO", errno) : number(env, size);
}

/* makeFifo(path, mode) */
static napi_value make_fifo(napi_env env, napi_callback_info info) {
  char path[PATH_MAX];
  uint32_t mode;
  if (!get(env, info, "tn", path, sizeof path, 0777, &mode)) return NULL;
  /* The mode holds whatever the umask is. */
  return mkfifo(path, mode) == 0 && chmod(path, mode) == 0 ? NULL : fail(env, "cannot be made", errno);
}

/* timerSlack(nanoseconds): what it was. */
static napi_value timer_slack(napi_env env, napi_callback_info info) {
  uint32_t nanoseconds;
  if (!get(env, info, "n", 1000000000, &nanoseconds)) return NULL;
  const long before = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
  const bool set = before >= 0 && prctl(PR_SET_TIMERSLACK, (unsigned long)nanoseconds, 0, 0, 0) == 0;
  return set ? number(env, (double)before) : fail(env, "prctl", errno);
}

static void free_instance(napi_env env, void *data, void *hint) {
  instance_t *instance = data;
  /* The thread that waits uses it, and ends with the process. */
  if (instance->epoll < 0) free(instance);
}

#define CALL(name, call) {name, NULL, call, NULL, NULL, NULL, napi_enumerable, NULL}

NAPI_MODULE_INIT() {
  instance_t *instance = calloc(1, sizeof *instance);
  if (instance == NULL) return fail(env, "no memory", 0);
  instance->epoll = -1;
  napi_set_instance_data(env, instance, free_instance, NULL);
  const napi_property_descriptor calls[] = {
      CALL("open", open_call), CALL("fill", fill), CALL("statistics", statistics), CALL("mute", mute), CALL("close", close_call),
      CALL("wake", wake), CALL("rearm", rearm), CALL("arena", arena), CALL("renew", renew), CALL("splice", splice_call), CALL("pending", pending),
      CALL("widen", widen), CALL("makeFifo", make_fifo), CALL("timerSlack", timer_slack)};
  return napi_define_properties(env, exports, sizeof calls / sizeof *calls, calls) == napi_ok ? exports : fail(env, "cannot start", 0);
}
