/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The rows of `qmig migrate`'s options. What stands in qmp/knobs.c about a capability or a
 * parameter (unit, range, side, versions) is not said again here. */
#include "cli/migrate-options.h"

#include <string.h>

static const char needs_agent[] =
    "it takes an agent on the host, which qmig does not have yet: run qmig migrate on the "
    "source's host, and qmig proxy on the other";

static const CliOption table[] = {
    /* ---- what is moved, and what becomes of the sides ------------------------------------ */
    { "live", CLI_FLAG, CLI_GROUP_GUEST, .virsh = "--live",
      .help = "the guest runs meanwhile (always so)",
      .text = "The guest runs while its memory is copied. That is always so; the word is "
              "taken for those who are used to it.",
      .excludes = "offline", .why = "one is with, the other without the guest" },
    { "offline", CLI_FLAG, CLI_GROUP_GUEST, .virsh = "--offline",
      .field = CLI_FIELD(offline), .needs = "definition",
      .why = "without a guest there is only its definition to move",
      .help = "move the definition only; no guest runs",
      .text =
          "Move the definition of a guest that is shut off: copy it (B<--persistent>), "
          "remove it (B<--undefinesource>), or both. Refused when a QEMU answers at "
          "SOURCE; DESTINATION is not asked." },
    { "suspend", CLI_FLAG, CLI_GROUP_GUEST, .virsh = "--suspend",
      .field = CLI_FIELD(suspend), .help = "leave it paused on the destination",
      .text = "Leave the guest paused on the destination." },
    { "keep-source", CLI_FLAG, CLI_GROUP_GUEST, .field = CLI_FIELD(keep_source),
      .help = "do not quit the source; it stays, stopped",
      .text =
          "Do not tell the source to quit. It stays, stopped; its guest must never be "
          "continued." },
    { "definition", CLI_FILE, CLI_GROUP_GUEST, .arg = "FILE",
      .field = CLI_FIELD(definition), .needs = "persistent undefinesource",
      .why = "nothing would be done with it",
      .help = "the file the guest is started from",
      .text =
          "The file that defines the guest on the source: a script, a unit, XML; qmig "
          "does not look into it. What is done with it, B<--persistent> and "
          "B<--undefinesource> say." },
    { "persistent", CLI_FLAG, CLI_GROUP_GUEST, .virsh = "--persistent",
      .needs = "definition-to", .why = "it copies the definition there",
      .help = "copy the definition when all is done",
      .text = "When the guest is on the destination, copy its definition to the file of "
              "B<--definition-to>." },
    { "definition-to", CLI_FILE, CLI_GROUP_GUEST, .arg = "FILE",
      .field = CLI_FIELD(definition_to), .needs = "persistent",
      .why = "without it nothing is copied", .help = "where to; with --persistent",
      .text =
          "Where B<--persistent> puts the copy: a path this process can write, on this "
          "host or mounted from the destination's. FILE must not exist, or be the same "
          "already. It is written beside its place before the guest moves, and renamed at "
          "the end: a full disk is found early." },
    { "undefinesource", CLI_FLAG, CLI_GROUP_GUEST, .virsh = "--undefinesource",
      .field = CLI_FIELD(undefine_source), .needs = "definition",
      .why = "it says what to remove", .help = "remove the definition when all is done",
      .text =
          "When the guest is on the destination, remove the definition's file, so that "
          "nobody starts the guest a second time. Without B<--persistent> nothing would "
          "be left of it: that is refused unless B<--unsafe> is given." },
    { "unsafe", CLI_FLAG, CLI_GROUP_GUEST, .virsh = "--unsafe",
      .field = CLI_FIELD(unsafe), .help = "do what could lose data, as asked",
      .text =
          "Allow what is refused because it could lose data and cannot be proven not to: "
          "B<--undefinesource> without a copy, B<--ignore-shared> with memory that is not "
          "proven to be the same file, what the storage options name, and what L<qmig-check(1)> "
          "calls risky." },
    { "dry-run", CLI_FLAG, CLI_GROUP_GUEST, .field = CLI_FIELD(dry_run),
      .excludes = "offline events", .why = "nothing happens in it that could be told",
      .help = "print what would be sent to both; send nothing",
      .text =
          "Print the plan: every QMP command that would change anything, with the side it "
          "would be sent to, phase by phase, and what would be done besides (hooks, the "
          "guest's agent, files). Both QEMUs are asked and compared as ever; nothing is sent "
          "that changes them, no socket is made, no hook is run, no journal is written. The "
          "plan is what the same code does with a guest that goes over well, so what is read "
          "from the guest or the network on the way may make the real one differ. A port "
          "the kernel would choose is shown as 65535, a directory's random name as XXXXXX." },
    { "p2p", CLI_FLAG, CLI_GROUP_GUEST, .virsh = "--p2p", .refused = needs_agent,
      .help = "refused: run qmig on the source's host",
      .text =
          "Refused: the source's host would have to drive the migration, which takes an "
          "agent there. Run B<qmig migrate> on the source's host." },
    { "tunnelled", CLI_FLAG, CLI_GROUP_GUEST, .virsh = "--tunnelled",
      .refused = needs_agent, .help = "refused: use --tls, or qmig proxy",
      .text =
          "Refused: it takes an agent on both hosts. What it is wanted for, encryption "
          "and a single port, B<--tls> and L<qmig-proxy(1)> give." },

    /* ---- memory ---------------------------------------------------------------------------- */
    { "bandwidth", CLI_TEXT, CLI_GROUP_MEMORY, .arg = "RATE", .virsh = "--bandwidth",
      .sets = "max-bandwidth", .help = "limit, e.g. 1.5Gbit or 100MiB/s (default: none)",
      .text =
          "Send no faster. Default: no limit (QEMU's own default would be 128 MiB/s)." },
    { "available-switchover-bandwidth", CLI_TEXT, CLI_GROUP_MEMORY, .arg = "RATE",
      .virsh = "--available-switchover-bandwidth", .sets = "avail-switchover-bandwidth",
      .help = "what the link gives at the end; QEMU else guesses",
      .text =
          "Reckon the blackout with this rate, instead of the one QEMU measures: for a "
          "link where B<--bandwidth> leaves room that the end may use." },
    { "downtime", CLI_TEXT, CLI_GROUP_MEMORY, .arg = "TIME",
      .virsh = "migrate-setmaxdowntime", .sets = "downtime-limit",
      .help = "blackout to aim for (QEMU: 300ms)",
      .text =
          "Switch over when the rest is estimated to take no longer than this. Default: "
          "what the source has set; QEMU's own is 300 ms." },
    { "timeout", CLI_DURATION, CLI_GROUP_MEMORY, .arg = "TIME", .virsh = "--timeout",
      .field = CLI_FIELD(timeout_ms), .help = "cancel when not done by then",
      .text =
          "Cancel when so long after the begin the source is not done with its guest: "
          "exit code 5. Default, and 0: none. B<--timeout-suspend> and "
          "B<--timeout-postcopy> say what to do instead. A bare number is milliseconds "
          "(virsh: seconds)." },
    { "timeout-suspend", CLI_FLAG, CLI_GROUP_MEMORY, .virsh = "--timeout-suspend",
      .needs = "timeout", .excludes = "timeout-postcopy",
      .why = "it says what happens when the time has passed",
      .help = "at the timeout: let the guest stand still",
      .text =
          "When the B<--timeout> has passed, stop the guest, so that its memory changes no "
          "more and the migration ends; it runs on when it has arrived." },
    { "timeout-postcopy", CLI_FLAG, CLI_GROUP_MEMORY, .virsh = "--timeout-postcopy",
      .needs = "timeout", .why = "it says what happens when the time has passed",
      .help = "at the timeout: post-copy (implies --postcopy)", .sets = "postcopy-ram",
      .text = "When the B<--timeout> has passed, switch to post-copy. "
              "Implies B<--postcopy>." },
    { "parallel", CLI_FLAG, CLI_GROUP_MEMORY, .virsh = "--parallel", .sets = "multifd",
      .help = "several connections (multifd)",
      .text = "Send pages over several connections." },
    { "parallel-connections", CLI_TEXT, CLI_GROUP_MEMORY, .arg = "N",
      .virsh = "--parallel-connections", .sets = "multifd-channels multifd",
      .help = "how many; implies --parallel",
      .text = "How many. Implies B<--parallel>." },
    { "zerocopy", CLI_FLAG, CLI_GROUP_MEMORY, .virsh = "--zerocopy",
      .sets = "zero-copy-send multifd",
      .help = "send without copying; implies --parallel",
      .text =
          "Let the source's kernel send pages from where they are. Implies "
          "B<--parallel>; the source must connect over tcp: with the default, a unix "
          "socket, add B<--listen>=tcp:127.0.0.1:0. The source needs the right to lock "
          "memory (C<LimitMEMLOCK>, or CAP_IPC_LOCK)." },
    { "zero-page-detection", CLI_TEXT, CLI_GROUP_MEMORY, .arg = "WHO",
      .sets = "zero-page-detection", .help = "multifd, legacy or none",
      .text =
          "Who looks for pages that are all zero: C<multifd>, its threads; C<legacy>, the "
          "one migration thread; C<none>, nobody. To a destination before 9.0 C<multifd> "
          "would leave stale memory, and is refused." },
    { "rdma-pin-all", CLI_FLAG, CLI_GROUP_MEMORY, .virsh = "--rdma-pin-all",
      .sets = "rdma-pin-all", .needs = "migrateuri",
      .why = "memory is pinned for a connection of RDMA: --direct "
             "--migrateuri=rdma:HOST:PORT",
      .help = "pin all memory; with --migrateuri=rdma:...",
      .text =
          "Pin all of the guest's memory before it is copied by RDMA. Needs "
          "B<--direct> and B<--migrateuri>=rdma:HOST:PORT: no proxy can stand in RDMA." },
    { "ignore-shared", CLI_FLAG, CLI_GROUP_MEMORY, .sets = "x-ignore-shared",
      .help = "do not send memory that both QEMUs share",
      .text =
          "Leave out memory that is a file both QEMUs have mapped shared: a guest changes "
          "its QEMU on one host at once, whatever its size. It is checked that both have "
          "the same files; what is shared and not proven to be the same is refused unless "
          "B<--unsafe> is given." },
    { "mapped-ram", CLI_FLAG, CLI_GROUP_MEMORY,
      .refused = "QEMU writes it to a file it can seek in, not to another QEMU: use "
                 "qmig save --mapped-ram FILE, then qmig restore",
      .help = "refused: it is a file; see qmig save",
      .text =
          "Refused: QEMU writes this format to files only. B<qmig save --mapped-ram> and "
          "B<qmig restore> use it, see L<qmig-save(1)>." },
    { "validate-uuid", CLI_FLAG, CLI_GROUP_MEMORY, .sets = "validate-uuid",
      .help = "the destination must have the same -uuid",
      .text =
          "The guest's UUID travels along, and a destination started with another one "
          "refuses it." },
    { "switchover-ack", CLI_FLAG, CLI_GROUP_MEMORY, .sets = "switchover-ack",
      .help = "the destination must agree to the switchover",
      .text =
          "The source waits with the switchover until the destination's devices (VFIO) "
          "are ready for it." },

    /* ---- compression ------------------------------------------------------------------------- */
    { "compressed", CLI_FLAG, CLI_GROUP_COMPRESSION, .virsh = "--compressed",
      .help = "compress; by xbzrle if --comp-methods does not say",
      .text =
          "Compress in QEMU; by C<xbzrle>, unless B<--comp-methods> or an option of a "
          "method says by what." },
    { "comp-methods", CLI_WORDS, CLI_GROUP_COMPRESSION, .arg = "NAME",
      .virsh = "--comp-methods", .help = "xbzrle, mt; or zlib, zstd, qatzip, qpl, uadk",
      .text =
          "How: C<xbzrle> sends only what has changed in a page; C<mt> compresses pages by "
          "threads, on a single connection (QEMU until 9.0); C<zlib>, C<zstd>, C<qatzip>, "
          "C<qpl> and C<uadk>, of which QEMU has those it was built with, compress on "
          "several connections, and imply B<--parallel>. Several are separated by commas, "
          "or the option is repeated; C<xbzrle> and C<mt> go together, the others only "
          "alone." },
    { "comp-mt-level", CLI_TEXT, CLI_GROUP_COMPRESSION, .arg = "LEVEL",
      .virsh = "--comp-mt-level", .sets = "compress-level compress",
      .help = "level of mt", .text = "Level of C<mt>. Implies that method." },
    { "comp-mt-threads", CLI_TEXT, CLI_GROUP_COMPRESSION, .arg = "N",
      .virsh = "--comp-mt-threads", .sets = "compress-threads compress",
      .help = "threads of mt on the source",
      .text = "Threads of C<mt> on the source. Implies that method." },
    { "comp-mt-dthreads", CLI_TEXT, CLI_GROUP_COMPRESSION, .arg = "N",
      .virsh = "--comp-mt-dthreads", .sets = "decompress-threads compress",
      .help = "threads of mt on the destination",
      .text = "Threads of C<mt> on the destination. Implies that method." },
    { "comp-mt-wait", CLI_TEXT, CLI_GROUP_COMPRESSION, .arg = "ON|OFF",
      .sets = "compress-wait-thread compress",
      .help = "off: send raw when all threads of mt are busy",
      .text =
          "C<off>: a page for which no thread of C<mt> is free is sent as it is. Implies "
          "that method." },
    { "comp-xbzrle-cache", CLI_TEXT, CLI_GROUP_COMPRESSION, .arg = "SIZE",
      .virsh = "--comp-xbzrle-cache", .sets = "xbzrle-cache-size xbzrle",
      .help = "cache of xbzrle",
      .text = "Memory in which the source keeps pages to compare with, a power of two. "
              "Implies C<xbzrle>." },
    { "comp-zlib-level", CLI_TEXT, CLI_GROUP_COMPRESSION, .arg = "LEVEL",
      .virsh = "--comp-zlib-level",
      .sets = "multifd-zlib-level multifd-compression=zlib multifd",
      .help = "level of zlib", .text = "Level of C<zlib>. Implies that method." },
    { "comp-zstd-level", CLI_TEXT, CLI_GROUP_COMPRESSION, .arg = "LEVEL",
      .virsh = "--comp-zstd-level",
      .sets = "multifd-zstd-level multifd-compression=zstd multifd",
      .help = "level of zstd", .text = "Level of C<zstd>. Implies that method." },
    { "comp-qatzip-level", CLI_TEXT, CLI_GROUP_COMPRESSION, .arg = "LEVEL",
      .sets = "multifd-qatzip-level multifd-compression=qatzip multifd",
      .help = "level of qatzip", .text = "Level of C<qatzip>. Implies that method." },

    /* ---- a guest that dirties too fast ------------------------------------------------------- */
    { "auto-converge", CLI_FLAG, CLI_GROUP_THROTTLE, .virsh = "--auto-converge",
      .sets = "auto-converge", .help = "slow a guest that dirties too fast",
      .text =
          "Let the source slow its guest's vCPUs when it dirties memory faster than that "
          "can be sent." },
    { "auto-converge-initial", CLI_TEXT, CLI_GROUP_THROTTLE, .arg = "PERCENT",
      .virsh = "--auto-converge-initial", .sets = "cpu-throttle-initial auto-converge",
      .help = "begin with", .text = "Begin with so much. Implies B<--auto-converge>." },
    { "auto-converge-increment", CLI_TEXT, CLI_GROUP_THROTTLE, .arg = "PERCENT",
      .virsh = "--auto-converge-increment",
      .sets = "cpu-throttle-increment auto-converge", .help = "and add",
      .text = "Add so much when it was not enough. Implies B<--auto-converge>." },
    { "throttle-threshold", CLI_TEXT, CLI_GROUP_THROTTLE, .arg = "PERCENT",
      .sets = "throttle-trigger-threshold",
      .help = "share dirtied of what was sent that is too fast",
      .text =
          "When the guest dirties this share of what was sent meanwhile, it dirties too "
          "fast, for B<--auto-converge> and B<--dirty-limit>." },
    { "throttle-max", CLI_TEXT, CLI_GROUP_THROTTLE, .arg = "PERCENT",
      .sets = "max-cpu-throttle auto-converge", .help = "slow down at most by",
      .text = "Slow down at most by so much, not less than B<--auto-converge-initial>. "
              "Implies B<--auto-converge>." },
    { "throttle-tailslow", CLI_FLAG, CLI_GROUP_THROTTLE,
      .sets = "cpu-throttle-tailslow=on auto-converge",
      .help = "smaller steps at the end",
      .text = "Take smaller steps when the guest hardly runs any more. Implies "
              "B<--auto-converge>." },
    { "dirty-limit", CLI_FLAG, CLI_GROUP_THROTTLE, .sets = "dirty-limit",
      .help = "slow only the vCPUs that dirty too fast",
      .text =
          "Instead of B<--auto-converge>: slow down only those vCPUs that dirty more than "
          "the limit. The source must run under KVM with C<-accel "
          "kvm,dirty-ring-size=4096>; otherwise QEMU refuses it." },
    { "vcpu-dirty-limit", CLI_TEXT, CLI_GROUP_THROTTLE, .arg = "RATE",
      .sets = "vcpu-dirty-limit dirty-limit", .help = "the limit",
      .text =
          "The limit of each vCPU; a bare number is MiB/s. Implies B<--dirty-limit>." },
    { "vcpu-dirty-limit-period", CLI_TEXT, CLI_GROUP_THROTTLE, .arg = "TIME",
      .sets = "x-vcpu-dirty-limit-period dirty-limit",
      .help = "how often it is looked at",
      .text = "How often the dirty rate is taken. Implies B<--dirty-limit>." },

    /* ---- post-copy --------------------------------------------------------------------------- */
    { "postcopy", CLI_FLAG, CLI_GROUP_POSTCOPY, .virsh = "--postcopy",
      .field = CLI_FIELD(postcopy), .sets = "postcopy-ram",
      .help = "allow it: by qmig postcopy, or by the next one",
      .text =
          "Allow post-copy: the guest goes over, and its memory follows. It begins by "
          "B<--postcopy-after-precopy>, B<--timeout-postcopy>, or on command. From then "
          "on each side has a part of the guest: when one of them dies, the guest is "
          "lost." },
    { "postcopy-after-precopy", CLI_FLAG, CLI_GROUP_POSTCOPY,
      .virsh = "--postcopy-after-precopy", .field = CLI_FIELD(postcopy_after_precopy),
      .sets = "postcopy-ram", .help = "after the first pass; implies --postcopy",
      .text = "Begin it when all memory was sent once. Implies B<--postcopy>." },
    { "recover-timeout", CLI_DURATION, CLI_GROUP_POSTCOPY, .arg = "TIME",
      .field = CLI_FIELD(recover_ms),
      .needs = "postcopy postcopy-after-precopy timeout-postcopy",
      .why = "it is for a broken post-copy",
      .help = "try so long to resume post-copy (default: 60s)",
      .text =
          "When the link breaks in post-copy, both sides pause; qmig tries so long to "
          "connect them again, as often as it breaks. Exit code 6 when it does not "
          "succeed." },
    { "postcopy-resume", CLI_FLAG, CLI_GROUP_POSTCOPY, .virsh = "--postcopy-resume",
      .help = "resume a paused post-copy; as qmig recover",
      .text =
          "Resume a post-copy that is paused (exit code 6): the same as L<qmig-recover(1)> "
          "with SOURCE. Of the other options only B<--fence>, B<--progress> and B<--json> "
          "go with it." },
    { "postcopy-bandwidth", CLI_TEXT, CLI_GROUP_POSTCOPY, .arg = "RATE",
      .virsh = "--postcopy-bandwidth", .sets = "max-postcopy-bandwidth",
      .needs = "postcopy postcopy-after-precopy timeout-postcopy",
      .why = "it is a limit of post-copy", .help = "limit of pages nobody waits for",
      .text = "Send pages that the guest does not wait for no faster." },
    { "postcopy-preempt", CLI_FLAG, CLI_GROUP_POSTCOPY, .sets = "postcopy-preempt",
      .needs = "postcopy postcopy-after-precopy timeout-postcopy",
      .why = "it is a connection of post-copy",
      .help = "its own connection for pages waited for",
      .text = "Pages that the guest waits for travel on a connection of their own." },
    { "postcopy-blocktime", CLI_FLAG, CLI_GROUP_POSTCOPY, .sets = "postcopy-blocktime",
      .needs = "postcopy postcopy-after-precopy timeout-postcopy",
      .why = "it measures post-copy", .help = "measure how long vCPUs waited",
      .text =
          "Let the destination measure how long vCPUs waited for pages: C<blocktime> in "
          "the report, with the histogram of latencies where QEMU (10.1 and later) keeps "
          "one." },
    { "release-ram", CLI_FLAG, CLI_GROUP_POSTCOPY, .sets = "release-ram",
      .needs = "postcopy postcopy-after-precopy timeout-postcopy",
      .why = "QEMU frees sent pages in post-copy only",
      .help = "free sent pages; a broken link loses the guest",
      .text = "The source frees memory as it is sent. A link that breaks then cannot be "
              "repaired: the guest is lost." },

    /* ---- TLS ----------------------------------------------------------------------------- */
    { "tls", CLI_FLAG, CLI_GROUP_TLS, .virsh = "--tls", .field = CLI_FIELD(tls),
      .help = "encrypt and authenticate the stream",
      .text =
          "Encrypt all connections of the migration with QEMU's own TLS, and let both "
          "sides prove who they are, by certificates or (B<--tls-psk>) a shared key. "
          "L<qmig-pki(1)> makes both." },
    { "tls-destination", CLI_TEXT, CLI_GROUP_TLS, .arg = "NAME",
      .virsh = "--tls-destination", .field = CLI_FIELD(tls_hostname), .needs = "tls",
      .why = "it is for TLS", .help = "the name in the destination's certificate",
      .text =
          "The name that the destination's certificate must have. Default: the host that "
          "is connected to." },
    { "tls-dir", CLI_FILE, CLI_GROUP_TLS, .arg = "DIR", .field = CLI_FIELD(tls_dir),
      .needs = "tls", .why = "it is for TLS",
      .help = "where the credentials are (default: /etc/pki/qemu)",
      .text =
          "The directory of the credentials, by QEMU's file names, on all hosts. Default: "
          "F</etc/pki/qemu>." },
    { "tls-source-dir", CLI_FILE, CLI_GROUP_TLS, .arg = "DIR",
      .field = CLI_FIELD(tls_source_dir), .needs = "tls", .why = "it is for TLS",
      .help = "those of the source, if elsewhere",
      .text = "That of the source's QEMU, if another." },
    { "tls-destination-dir", CLI_FILE, CLI_GROUP_TLS, .arg = "DIR",
      .field = CLI_FIELD(tls_destination_dir), .needs = "tls", .why = "it is for TLS",
      .help = "those of the destination, if elsewhere",
      .text = "That of the destination's QEMU, if another." },
    { "tls-proxy-dir", CLI_FILE, CLI_GROUP_TLS, .arg = "DIR",
      .field = CLI_FIELD(tls_proxy_dir), .needs = "tls", .why = "it is for TLS",
      .help = "those of the proxy, if elsewhere",
      .text =
          "That of this process, which ends both connections as a proxy and looks at the "
          "certificates before; if another." },
    { "tls-creds", CLI_TEXT, CLI_GROUP_TLS, .arg = "ID[,ID]",
      .field = CLI_FIELD(tls_creds), .needs = "tls", .why = "it is for TLS",
      .help = "objects that both QEMUs have already",
      .text =
          "Use objects with credentials that both QEMUs have already, by this id, or by "
          "one for the source and one for the destination, instead of making some for "
          "the migration." },
    { "tls-psk", CLI_FLAG, CLI_GROUP_TLS, .field = CLI_FIELD(tls_psk), .needs = "tls",
      .why = "it is for TLS", .help = "by a shared key, not by certificates",
      .text = "The sides know each other by a shared key (F<keys.psk>) instead of "
              "certificates." },
    { "tls-user", CLI_TEXT, CLI_GROUP_TLS, .arg = "NAME", .field = CLI_FIELD(tls_user),
      .needs = "tls-psk", .why = "it is the name of a shared key",
      .help = "whose key (default: qemu)", .text = "Whose key. Default: C<qemu>." },
    { "tls-authz", CLI_TEXT, CLI_GROUP_TLS, .arg = "ID", .sets = "tls-authz",
      .needs = "tls", .why = "it is for TLS",
      .help = "object of the destination that says who may come",
      .text = "An authorization object (C<authz-simple>, ...) of the destination, which "
              "decides by the name in the source's certificate whether it may come." },

    /* ---- the way ----------------------------------------------------------------------------- */
    { "direct", CLI_FLAG, CLI_GROUP_PATH, .field = CLI_FIELD(direct),
      .excludes = "plugin listen record", .why = "--direct goes without proxy",
      .help = "without the proxy",
      .text =
          "Without the proxy: the source connects to the destination. No B<--plugin>, no "
          "B<--listen>, and no C<proxy> in the report." },
    { "plugin", CLI_LIST, CLI_GROUP_PATH, .arg = "SPEC", .field = CLI_FIELD(plugins),
      .help = "NAME[:key=value,…]; may be repeated",
      .text =
          "C<NAME> or C<NAME:key=value,key=value>: let this plugin see the stream. May be "
          "repeated; C<stats> always comes first. C<qmig plugins> lists the built-in "
          "ones; a NAME with a slash is a shared object. A comma in a value is written "
          "twice." },
    { "record", CLI_FILE, CLI_GROUP_PATH, .arg = "DIR", .field = CLI_FIELD(record),
      .help = "write all connections into a new directory",
      .text =
          "Keep all connections of the migration in DIR, which must be new or empty: see "
          "L<qmig-proxy(1)>." },
    { "migrateuri", CLI_ADDRESS, CLI_GROUP_PATH, .arg = "ADDRESS",
      .virsh = "--migrateuri", .field = CLI_FIELD(migrate_uri),
      .help = "where the destination shall listen",
      .text =
          "Where the destination shall listen for the stream. Default: a private unix "
          "socket where DESTINATION is one, else a free port on DESTINATION's host. With "
          "a host of C<0.0.0.0> or C<[::]> it is reached at DESTINATION's host. "
          "C<rdma:HOST:PORT> with B<--direct> only." },
    { "listen", CLI_ADDRESS, CLI_GROUP_PATH, .arg = "ADDRESS", .field = CLI_FIELD(listen),
      .help = "where the proxy listens for the source",
      .text =
          "Where the proxy shall listen for the source. Default: a private unix socket "
          "where SOURCE is one, else a free port on this host's address as the source's "
          "QMP connection shows it." },

    /* ---- the tunnel ------------------------------------------------------------------------ */
    { "via", CLI_WORDS, CLI_GROUP_TUNNEL, .arg = "HOST[:PORT]", .field = CLI_FIELD(via),
      .help = "through a tunnel, to qmig proxy --tunnel there",
      .text =
          "Let all connections of the migration, those of the disks (B<--copy-storage-all>) "
          "included, go through a tunnel to the C<qmig proxy --tunnel> that listens there, on "
          "port 7117 unless PORT is given; it connects on to the destination. Several "
          "addresses of it, parted by commas, are tried in turn. A DESTINATION of "
          "C<via:ADDRESS> is an address on its host, reached through the tunnel too. See "
          "L</THE TUNNEL>." },
    { "via-connections", CLI_TEXT, CLI_GROUP_TUNNEL, .arg = "N",
      .field = CLI_FIELD(via_connections), .needs = "via", .why = "it is for the tunnel",
      .help = "how many connections it has (default: 2)",
      .text = "How many connections the tunnel has, 16 at most. Default: 2." },
    { "via-compression", CLI_TEXT, CLI_GROUP_TUNNEL, .arg = "HOW",
      .field = CLI_FIELD(via_compression), .needs = "via", .why = "it is for the tunnel",
      .help = "auto, none, lz4, zstd or zstd:LEVEL",
      .text =
          "How the tunnel compresses: C<auto> (the default) chooses all the time what is "
          "fastest on this link, C<none>, C<lz4>, C<zstd>, or C<zstd:LEVEL> with a level "
          "from 1 to 19. With C<auto> and C<zstd>, on a link of less than 40 MiB/s, both ends "
          "keep the last 64 MiB of each stream, of 8 streams at most, to compress by them." },
    { "via-cache", CLI_TEXT, CLI_GROUP_TUNNEL, .arg = "SIZE",
      .field = CLI_FIELD(via_cache), .needs = "via", .why = "it is for the tunnel",
      .help = "pages kept on both sides (default: 1G)",
      .text =
          "Memory, in this process and at the far end, in which pages are kept that were sent: "
          "of a page that comes again only what has changed travels, of one that is like "
          "another only its number. Default: 1 GiB; 0: none. The far end may grant less." },
    { "via-bandwidth", CLI_TEXT, CLI_GROUP_TUNNEL, .arg = "RATE",
      .field = CLI_FIELD(via_bandwidth), .needs = "via", .why = "it is for the tunnel",
      .help = "limit of what is on the wire",
      .text =
          "Put no more on the wire, all connections together. Unlike B<--bandwidth>, which "
          "limits what QEMU writes, this is after compression, and is kept with multifd too. "
          "C<qmig set ... via-bandwidth=> changes it. Default: no limit." },
    { "via-deadline", CLI_DURATION, CLI_GROUP_TUNNEL, .arg = "TIME",
      .field = CLI_FIELD(via_deadline_ms), .needs = "via", .why = "it is for the tunnel",
      .help = "survive so long without a connection (120s)",
      .text =
          "When the link is down both QEMUs wait, and nothing is lost; after this time "
          "without any connection the tunnel gives up: before the switchover with exit code "
          "5 and the guest on the source, in post-copy with exit code 6. Default: 2 "
          "minutes. The far end may grant less." },
    { "via-standstill", CLI_DURATION, CLI_GROUP_TUNNEL, .arg = "TIME",
      .field = CLI_FIELD(via_standstill_ms), .needs = "via",
      .why = "it is for the tunnel", .help = "and so long while the guest stands still",
      .text =
          "A link that goes down at the switchover finds the guest stopped on the source, "
          "and not yet running on the destination. After this time it goes on on the "
          "source (exit code 5), even if B<--via-deadline> would wait longer. A source "
          "that writes its last state without waiting before cannot be asked then: that "
          "it stands still is noticed when an answer is late, after ten seconds and "
          "thrice its downtime limit. Without "
          "effect in post-copy, which has no way back. Default: no sooner." },
    { "via-tls-dir", CLI_FILE, CLI_GROUP_TUNNEL, .arg = "DIR",
      .field = CLI_FIELD(via_tls_dir), .needs = "via", .excludes = "via-insecure",
      .why = "it is for the tunnel's TLS",
      .help = "its credentials (default: --tls-dir's)",
      .text =
          "The directory of the tunnel's credentials, those of a client (L<qmig-pki(1)>). "
          "Default: that of B<--tls-dir>, F</etc/pki/qemu>. The tunnel is encrypted, and both "
          "its ends prove who they are, unless B<--via-insecure> is given." },
    { "via-tls-psk", CLI_FLAG, CLI_GROUP_TUNNEL, .field = CLI_FIELD(via_tls_psk),
      .needs = "via", .excludes = "via-insecure", .why = "it is for the tunnel's TLS",
      .help = "by a shared key, not by certificates",
      .text = "The two ends of the tunnel know each other by a shared key (F<keys.psk>) "
              "instead of certificates." },
    { "via-tls-user", CLI_TEXT, CLI_GROUP_TUNNEL, .arg = "NAME",
      .field = CLI_FIELD(via_tls_user), .needs = "via-tls-psk",
      .why = "it is the name of a shared key", .help = "whose key (default: qemu)",
      .text = "Whose key. Default: C<qemu>." },
    { "via-tls-destination", CLI_TEXT, CLI_GROUP_TUNNEL, .arg = "NAME",
      .field = CLI_FIELD(via_tls_destination), .needs = "via",
      .excludes = "via-insecure via-tls-psk", .why = "it is about its certificate",
      .help = "the name in the far end's certificate",
      .text =
          "The name that the far end's certificate must have. Default: the first HOST of "
          "B<--via>." },
    { "via-insecure", CLI_FLAG, CLI_GROUP_TUNNEL, .field = CLI_FIELD(via_insecure),
      .needs = "via", .why = "it is for the tunnel",
      .help = "in the clear, to whoever answers",
      .text =
          "No TLS in the tunnel: whoever is on the way can read the guest's memory, and change "
          "it. For a network that is secured otherwise. The far end must be told the same." },

    /* ---- telling the network ------------------------------------------------------------------ */
    { "announce-initial", CLI_TEXT, CLI_GROUP_NETWORK, .arg = "TIME",
      .sets = "announce-initial", .help = "wait before the second announcement",
      .text =
          "The destination announces the guest to the network's switches when it runs "
          "there, several times: so long after the first comes the second." },
    { "announce-step", CLI_TEXT, CLI_GROUP_NETWORK, .arg = "TIME",
      .sets = "announce-step", .help = "wait longer by so much each time",
      .text = "Each wait is longer than the one before by this." },
    { "announce-max", CLI_TEXT, CLI_GROUP_NETWORK, .arg = "TIME", .sets = "announce-max",
      .help = "but not longer than", .text = "The longest wait." },
    { "announce-rounds", CLI_TEXT, CLI_GROUP_NETWORK, .arg = "N",
      .sets = "announce-rounds", .help = "how many", .text = "How many announcements." },

    /* ---- disks ------------------------------------------------------------------------------------ */
    { "copy-storage-all", CLI_FLAG, CLI_GROUP_STORAGE, .virsh = "--copy-storage-all",
      .field = CLI_FIELD(copy_storage_all), .excludes = "copy-storage-inc",
      .why = "one copies all, the other what is above a backing file",
      .help = "copy the disks as well, whole",
      .text =
          "Copy the guest's writable disks, whole: for guests whose images are not on "
          "shared storage. Start the destination with images of the same size. Disks of "
          "which both sides have the same image are left out. See L</DISKS>." },
    { "copy-storage-inc", CLI_FLAG, CLI_GROUP_STORAGE, .virsh = "--copy-storage-inc",
      .field = CLI_FIELD(copy_storage_inc),
      .help = "only what is above their backing file",
      .text =
          "Copy of each disk only what its own image holds; the backing file below it must "
          "be there on both sides, with the same contents." },
    { "copy-storage-synchronous-writes", CLI_FLAG, CLI_GROUP_STORAGE,
      .virsh = "--copy-storage-synchronous-writes",
      .field = CLI_FIELD(copy_storage_synchronous),
      .needs = "copy-storage-all copy-storage-inc", .why = "it is about that copy",
      .help = "the guest's writes wait for the copy",
      .text =
          "A write of the guest is done when it is done on both sides, from the begin of "
          "the copy: it ends however fast the guest writes, and the guest is slowed to what "
          "the link takes. Without this QEMUs that can (8.2 and later) are switched to it "
          "when a disk has been copied once." },
    { "migrate-disks", CLI_WORDS, CLI_GROUP_STORAGE, .arg = "DISK,…",
      .virsh = "--migrate-disks", .field = CLI_FIELD(migrate_disks),
      .needs = "copy-storage-all copy-storage-inc",
      .why = "it says which disks those copy",
      .help = "only these; NAME=NAME-THERE if it differs",
      .text =
          "Copy these disks only. DISK is the id of a drive, of a device, or of a block "
          "node. The destination's disk is the one of the same device, or else of the same "
          "drive; C<DISK=OTHER> says that it is OTHER there." },
    { "disks-uri", CLI_ADDRESS, CLI_GROUP_STORAGE, .arg = "ADDRESS",
      .virsh = "--disks-uri", .field = CLI_FIELD(disks_uri),
      .needs = "copy-storage-all copy-storage-inc",
      .why = "it says how those reach the destination",
      .help = "where the destination serves its disks",
      .text =
          "Where the destination shall serve its disks to the source (NBD), which connects "
          "there itself, past the proxy. Port 0: the first free one from 49152 to 49215. "
          "Default: beside B<--migrateuri>." },
    { "dirty-bitmaps", CLI_FLAG, CLI_GROUP_STORAGE, .sets = "dirty-bitmaps",
      .help = "take the disks' dirty bitmaps along",
      .text =
          "Take the dirty bitmaps of the disks along, as incremental backups need them, "
          "whatever the block nodes are called there. A mapping of your own can be given by "
          "B<--set block-bitmap-mapping=>." },

    /* ---- safety ---------------------------------------------------------------------------------- */
    { "journal", CLI_FILE, CLI_GROUP_SAFETY, .arg = "FILE", .field = CLI_FIELD(journal),
      .excludes = "no-journal", .why = "one asks for what the other declines",
      .help = "write the steps here; for qmig recover",
      .text =
          "Write each step that matters into FILE before it is done, and keep FILE at the "
          "end. Without this the journal is a new file in F</var/lib/qmig> (root) or "
          "F<~/.local/state/qmig>, in either case in F<$XDG_STATE_HOME/qmig> where that is "
          "set, and is removed when the migration has ended and it is clear where the guest "
          "is. See L<qmig-recover(1)>." },
    { "no-journal", CLI_FLAG, CLI_GROUP_SAFETY, .help = "write no journal",
      .text =
          "Write none: when this process is killed, qmig recover knows nothing of the "
          "migration." },
    { "fence", CLI_TEXT, CLI_GROUP_SAFETY, .arg = "COMMAND", .field = CLI_FIELD(fence),
      .help = "makes sure that a lost side runs nothing",
      .text =
          "Run by F</bin/sh> when a side is not proven gone and the other one shall run the "
          "guest. Exit code 0 within a minute says that it certainly runs nothing any more; "
          "anything else leaves it unclear who owns the guest. See L</HOOKS>." },
    { "hook", CLI_LIST, CLI_GROUP_SAFETY, .arg = "PHASE=COMMAND",
      .field = CLI_FIELD(hooks), .help = "run COMMAND when PHASE begins",
      .text =
          "Run COMMAND by F</bin/sh> when a phase begins, or at the end: C<done>, "
          "C<failed>. May be repeated. An exit code other than 0 ends the migration as long "
          "as there is a way back, and is only told afterwards. See L</HOOKS>." },
    { "hook-timeout", CLI_DURATION, CLI_GROUP_SAFETY, .arg = "TIME",
      .field = CLI_FIELD(hook_timeout_ms), .needs = "hook", .why = "it is theirs",
      .help = "a hook that takes longer is killed (30s)",
      .text = "A hook that takes longer is killed with all it has started, and counts as "
              "failed. Default: 30 seconds." },
    { "agent", CLI_ADDRESS, CLI_GROUP_SAFETY, .arg = "ADDRESS", .field = CLI_FIELD(agent),
      .help = "socket of the guest's qemu-ga on the source",
      .text =
          "The socket of the channel to the guest's agent (qemu-ga) on the source. The "
          "agent must answer there when the migration begins." },
    { "agent-destination", CLI_ADDRESS, CLI_GROUP_SAFETY, .arg = "ADDRESS",
      .field = CLI_FIELD(agent_destination), .help = "the same on the destination",
      .text = "The socket of the same channel on the destination." },
    { "freeze", CLI_FLAG, CLI_GROUP_SAFETY, .field = CLI_FIELD(freeze), .needs = "agent",
      .why = "its agent does it", .help = "freeze its filesystems for the switchover",
      .text =
          "Let the agent freeze the guest's filesystems when the first pass over its memory "
          "is done, and thaw them where it runs then. Should the switchover not come "
          "within ten seconds they are thawed again, which is told. Takes B<--agent> and "
          "B<--agent-destination>." },
    { "set-time", CLI_FLAG, CLI_GROUP_SAFETY, .field = CLI_FIELD(set_time),
      .needs = "agent-destination", .why = "its agent does it",
      .help = "set the guest's clock when it has arrived",
      .text = "Let the agent set the guest's clock to this host's when it runs on the "
              "destination." },
    { "life-timeout", CLI_DURATION, CLI_GROUP_SAFETY, .arg = "TIME",
      .field = CLI_FIELD(life_timeout_ms), .excludes = "no-proof-of-life",
      .why = "one asks for what the other declines",
      .help = "until a sign of life is missed (3s)",
      .text =
          "After it was told to run, the guest must be seen alive on the destination before "
          "the source is let go: its registers, what KVM counts of its vCPUs, or their "
          "processor time must change. A guest that was busy on the source and does "
          "nothing for this time goes back there if it has written to no disk: exit code "
          "3; else: exit code 7. Most are seen alive within 50 ms. Default: 3 seconds." },
    { "no-proof-of-life", CLI_FLAG, CLI_GROUP_SAFETY,
      .field = CLI_FIELD(no_proof_of_life),
      .help = "take QEMU's word that the guest runs",
      .text = "Do not look: QEMU's word that the guest runs is taken." },
    { "abort-on-error", CLI_FLAG, CLI_GROUP_SAFETY, .virsh = "--abort-on-error",
      .field = CLI_FIELD(abort_on_error), .help = "an I/O error of the guest ends it",
      .text = "End the migration when the guest meets an I/O error on one of its disks. "
              "Otherwise that is told, and it goes on." },
    { "change-protection", CLI_FLAG, CLI_GROUP_SAFETY, .virsh = "--change-protection",
      .field = CLI_FIELD(change_protection), .help = "a change of its devices ends it",
      .text =
          "End the migration when a device or a medium of the guest is plugged, removed or "
          "changed meanwhile: the destination would not fit any more. Also refuse to begin "
          "when the guest cannot be locked against other qmigs on this host, which is tried "
          "always." },

    /* ---- anything else, and output ------------------------------------------------------------- */
    { "set", CLI_LIST, CLI_GROUP_OUTPUT, .arg = "NAME=VALUE",
      .help = "any parameter QEMU has",
      .text =
          "Any migration parameter QEMU has, on the side or sides that need it. VALUE may "
          "have the unit of the parameter. May be repeated. C<qmig caps> lists them. It "
          "wins over the options above." },
    { "cap", CLI_LIST, CLI_GROUP_OUTPUT, .arg = "NAME", .help = "any capability QEMU has",
      .text =
          "Switch on any migration capability QEMU has, on the side or sides that need "
          "it. May be repeated. Capabilities that nobody asked for are off during the "
          "migration, also when an earlier one left them on. C<x-colo>, "
          "C<background-snapshot> and C<mapped-ram> are refused." },
    { "progress", CLI_TEXT, CLI_GROUP_OUTPUT, .arg = "KIND",
      .help = "auto, tty, plain, json or none; on stderr",
      .text =
          "On stderr: C<tty>, drawn anew in place; C<plain>, a line for each phase, "
          "iteration, decision and message; C<json>, see L</PROGRESS AS JSON>; C<none>; "
          "C<auto> (the default): C<tty> on a terminal, else C<plain>." },
    { "events", CLI_FLAG, CLI_GROUP_OUTPUT, .help = "each event as a JSON object a line",
      .text =
          "Print each event as a JSON object a line on stdout: phases, states, iterations, "
          "decisions with their reasons, who asked for what, and how it ended. They are "
          "described in F<docs/events.md>, and stay as they are there. A reader that stands "
          "still does not hold up the migration: what it misses is told. No other report is "
          "printed; with B<--json> it is the last line, "
          "C<{\"event\":\"report\",\"report\":{...}}>." },
    { "control", CLI_TEXT, CLI_GROUP_OUTPUT, .arg = "PATH",
      .help = "the control socket: a path, or none",
      .text =
          "Where other commands (L<qmig-status(1)>) reach this migration: a socket that "
          "only this user and root can use. Default: F<PID.sock> in the directory of "
          "L<qmig(1)/ENVIRONMENT>'s B<QMIG_RUNTIME_DIR>, where they find it by the guest's "
          "name. C<none>: there is none." },
    { "json", CLI_FLAG, CLI_GROUP_OUTPUT, .help = "the report as one JSON object",
      .text =
          "Print the report as one JSON object on stdout, see L</REPORT>, whatever the "
          "outcome. There is none when the command line was not understood. Without this, "
          "a done migration prints it as text." },
};

const CliOption *
cli_migrate_options(size_t *n)
{
    *n = G_N_ELEMENTS(table);
    return table;
}

const CliOption *
cli_migrate_option(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        if (strcmp(table[i].name, name) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

const char *
cli_group_title(CliGroup group)
{
    static const char *const titles[CLI_N_GROUPS] = {
        [CLI_GROUP_GUEST] = "The guest and the two sides",
        [CLI_GROUP_MEMORY] = "Memory",
        [CLI_GROUP_COMPRESSION] = "Compression in QEMU",
        [CLI_GROUP_THROTTLE] = "A guest that dirties too fast",
        [CLI_GROUP_POSTCOPY] = "Post-copy",
        [CLI_GROUP_STORAGE] = "Disks",
        [CLI_GROUP_TLS] = "Encryption",
        [CLI_GROUP_PATH] = "The way of the stream",
        [CLI_GROUP_TUNNEL] = "The tunnel",
        [CLI_GROUP_NETWORK] = "The guest's network",
        [CLI_GROUP_SAFETY] = "Safety",
        [CLI_GROUP_OUTPUT] = "Anything else, and output",
    };

    return titles[group];
}
