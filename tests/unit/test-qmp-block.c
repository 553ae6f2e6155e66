/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disks as QEMU tells them, and what each command of copying sends. */
#include "qmp/block.h"
#include "tests/fake-qemu/fake-qemu.h"
#include "util/error.h"

static QmigQmp *
connect_to(FakeQemu *fake)
{
    g_autoptr(GError) error = NULL;
    QmigQmp *q = qmig_qmp_connect(fake_qemu_address(fake), "source",
                                  qmig_deadline_in_ms(5000), NULL, &error);

    g_assert_no_error(error);
    return q;
}

/* A disk of -drive by 7.2 with a backing file, an empty drive, a disk of -blockdev by 11.1, a
 * medium no device has. */
static const char disks_reply[] =
    "[{\"io-status\": \"ok\", \"device\": \"drive0\", \"inserted\": {\"image\": "
    "{\"virtual-size\": 1048576, \"filename\": \"/a.qcow2\", \"format\": \"qcow2\", "
    "\"actual-size\": 200704, \"backing-image\": {\"virtual-size\": 65536, "
    "\"filename\": \"/b.img\", \"format\": \"raw\"}}, \"ro\": false, \"node-name\": "
    "\"#block109\", \"drv\": \"qcow2\", \"cache\": {\"direct\": true}, \"dirty-bitmaps\": "
    "[{\"count\": 0}, {\"name\": \"bm0\"}], \"file\": \"/a.qcow2\"}, \"qdev\": "
    "\"/machine/peripheral/disk0/virtio-backend\"},"
    "{\"device\": \"cd0\", \"qdev\": \"/machine/peripheral/cd\"},"
    "{\"io-status\": \"nospace\", \"device\": \"\", \"inserted\": {\"active\": false, "
    "\"image\": {\"virtual-size\": 512}, \"ro\": true, \"node-name\": \"n1\", \"drv\": "
    "\"raw\", \"file\": \"/c.img\"}, \"qdev\": \"/machine/peripheral/sys/virtio-backend\"},"
    "{\"device\": \"loose\", \"inserted\": {\"node-name\": \"n2\"}}, 4711]";

static void
test_disks(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "query-block" },
        { FAKE_REPLY, disks_reply },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) disks = qmig_qmp_query_disks(q, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(disks->len, ==, 2);
    const QmigBlockDisk *a = disks->pdata[0], *c = disks->pdata[1];
    g_autofree char *a_name = qmig_block_disk_name(a), *c_name = qmig_block_disk_name(c);
    g_assert_cmpstr(a_name, ==, "drive0");
    g_assert_true(qmig_block_disk_is_named(a, "disk0"));
    g_assert_true(qmig_block_disk_is_named(a, "#block109"));
    g_assert_false(qmig_block_disk_is_named(a, "disk"));
    g_assert_false(qmig_block_disk_is_named(c, ""));
    g_assert_cmpuint(a->virtual_size, ==, 1048576);
    g_assert_true(a->is_direct && !a->read_only && !a->is_inactive && !a->has_io_error);
    g_assert_cmpuint(a->backing->len, ==, 1);
    g_assert_cmpstr(((QmigBlockImage *)a->backing->pdata[0])->filename, ==, "/b.img");
    g_assert_cmpuint(a->bitmaps->len, ==, 1);
    g_assert_cmpstr(a->bitmaps->pdata[0], ==, "bm0");
    g_assert_cmpstr(c_name, ==, "sys");
    g_assert_true(c->read_only && c->is_inactive && c->has_io_error && !c->is_direct);
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

static void
test_exports(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "nbd-server-start",
          "{\"addr\": {\"type\": \"inet\", \"data\": {\"host\": \"::1\", \"port\": "
          "\"49152\"}}, \"tls-creds\": \"c\", \"max-connections\": 2}" },
        { FAKE_REPLY, "{}" },
        { FAKE_EXPECT, "block-export-add",
          "{\"type\": \"nbd\", \"id\": \"x\", \"name\": \"x\", \"node-name\": \"#b1\", "
          "\"writable\": true}" },
        { FAKE_REPLY, "{}" },
        { FAKE_EXPECT, "query-block-exports" },
        { FAKE_REPLY, "[{\"id\": \"x\", \"shutting-down\": false}]" },
        { FAKE_EXPECT, "block-export-del", "{\"id\": \"x\", \"mode\": \"hard\"}" },
        { FAKE_REPLY, "{}" },
        { FAKE_EXPECT, "nbd-server-stop" },
        { FAKE_ERROR, "GenericError", "NBD server not running" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigAddress) address = qmig_address_new_tcp("::1", 49152);
    QmigNbdServer server = { .address = address, .tls_creds = "c", .max_connections = 2 };

    g_assert_true(qmig_qmp_nbd_server_start(q, &server, &error));
    g_assert_true(qmig_qmp_export_add(q, "x", "#b1", &error));
    g_autoptr(GPtrArray) exports = qmig_qmp_query_exports(q, &error);
    g_assert_cmpuint(exports->len, ==, 1);
    g_assert_cmpstr(exports->pdata[0], ==, "x");
    g_assert_true(qmig_qmp_export_del(q, "x", true, &error));
    g_assert_no_error(error);
    g_assert_false(qmig_qmp_nbd_server_stop(q, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_QMP);
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

static void
test_mirror(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "blockdev-add",
          "{\"driver\": \"nbd\", \"node-name\": \"t\", \"server\": {\"type\": \"unix\", "
          "\"path\": \"/s\"}, \"export\": \"x\", \"discard\": \"unmap\"}" },
        { FAKE_REPLY, "{}" },
        { FAKE_EXPECT, "blockdev-mirror",
          "{\"job-id\": \"j\", \"device\": \"#b\", \"target\": \"t\", \"sync\": \"top\", "
          "\"copy-mode\": \"write-blocking\", \"auto-dismiss\": false, \"speed\": 1000}" },
        { FAKE_REPLY, "{}" },
        { FAKE_EXPECT, "query-jobs" },
        { FAKE_REPLY, "[{\"id\": \"k\", \"status\": \"running\"}, {\"id\": \"j\", "
                      "\"status\": \"concluded\", \"current-progress\": 5, "
                      "\"total-progress\": 7, \"error\": \"No space\"}]" },
        { FAKE_EXPECT, "block-job-change",
          "{\"id\": \"j\", \"type\": \"mirror\", \"copy-mode\": \"write-blocking\"}" },
        { FAKE_REPLY, "{}" },
        { FAKE_EXPECT, "block-job-cancel", "{\"device\": \"j\", \"force\": false}" },
        { FAKE_REPLY, "{}" },
        { FAKE_EXPECT, "yank",
          "{\"instances\": [{\"type\": \"block-node\", \"node-name\": \"t\"}]}" },
        { FAKE_REPLY, "{}" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigAddress) address = qmig_address_new_unix("/s");
    QmigNbdTarget target = { .node = "t", .export = "x", .address = address };
    QmigMirror mirror = { "j", "#b", "t", true, true, 1000 };

    g_assert_true(qmig_qmp_nbd_open(q, &target, &error));
    g_assert_true(qmig_qmp_mirror(q, &mirror, &error));
    g_autoptr(GPtrArray) jobs = qmig_qmp_query_jobs(q, NULL, &error);
    const QmigBlockJob *job = qmig_block_job_find(jobs, "j");
    g_assert_cmpstr(job->status, ==, "concluded");
    g_assert_cmpstr(job->error, ==, "No space");
    g_assert_cmpuint(job->current, ==, 5);
    g_assert_cmpuint(job->total, ==, 7);
    g_assert_null(qmig_block_job_find(jobs, "l"));
    g_assert_true(qmig_qmp_mirror_make_synchronous(q, "j", &error));
    g_assert_true(qmig_qmp_job_cancel(q, "j", false, &error));
    g_assert_true(qmig_qmp_yank_node(q, "t", &error));
    g_assert_no_error(error);
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

static void
test_replies_that_lie(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "query-block" },
        { FAKE_REPLY, "{}" },
        { FAKE_EXPECT, "query-jobs" },
        { FAKE_REPLY, "[[], {\"current-progress\": -1}]" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(GError) error = NULL;

    g_assert_null(qmig_qmp_query_disks(q, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
    g_clear_error(&error);
    g_autoptr(GPtrArray) jobs = qmig_qmp_query_jobs(q, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(jobs->len, ==, 2);
    g_assert_cmpuint(((QmigBlockJob *)jobs->pdata[1])->current, ==, 0);
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qmp/block/disks", test_disks);
    g_test_add_func("/qmp/block/exports", test_exports);
    g_test_add_func("/qmp/block/mirror", test_mirror);
    g_test_add_func("/qmp/block/replies-that-lie", test_replies_that_lie);
    return g_test_run();
}
