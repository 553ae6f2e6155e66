/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Several plugins may pace, and each grants as much as it likes. What one has granted and another
 * has not yet stays granted, so that nobody is asked, and counts, twice for the same bytes:
 *
 *     granted by A  |##########|        asked again when these have been written
 *     granted by B  |####|              so much may go now
 */
#include "plugin/pacer.h"

#include "plugin/bridge.h"

struct QmigPacer {
    QmigInstance *pacing[QMIG_CHAIN_PLUGINS_MAX]; /* borrowed; those with `pace` */
    uint64_t granted[QMIG_CHAIN_PLUGINS_MAX];     /* bytes not yet written, of each */
    unsigned n_pacing;
    QmigInstance *altering[QMIG_CHAIN_PLUGINS_MAX]; /* borrowed; those with `alter` */
    unsigned n_altering;
    uint32_t channel, id;
    uint64_t offset; /* bytes written */
};

QmigPacer *
qmig_pacer_new(QmigChain *chain, uint32_t channel, uint32_t id)
{
    g_autoptr(QmigPacer) p = g_new0(QmigPacer, 1);
    unsigned n;
    QmigInstance *const *instances = qmig_chain_instances(chain, &n);

    p->channel = channel;
    p->id = id;
    for (unsigned i = 0; i < n; i++) {
        const struct qmig_plugin *api = qmig_instance_api(instances[i]);

        if (api->pace != NULL) {
            p->pacing[p->n_pacing++] = instances[i];
        }
        if (api->alter != NULL) {
            p->altering[p->n_altering++] = instances[i];
        }
    }
    return p->n_pacing + p->n_altering > 0 ? g_steal_pointer(&p) : NULL;
}

void
qmig_pacer_free(QmigPacer *pacer)
{
    g_free(pacer);
}

static struct qmig_piece
next_piece(const QmigPacer *p, uint64_t bytes)
{
    return (struct qmig_piece){
        .size = sizeof(struct qmig_piece),
        .channel = p->channel,
        .id = p->id,
        .offset = p->offset,
        .bytes = bytes,
    };
}

bool
qmig_pacer_ask(QmigPacer *p, uint64_t *bytes, uint64_t *wait_ns, GError **error)
{
    uint64_t may = *bytes;

    *wait_ns = 0;
    for (unsigned i = 0; i < p->n_pacing; i++) {
        struct qmig_piece piece = next_piece(p, may);

        if (p->granted[i] == 0) {
            if (!qmig_instance_pace(p->pacing[i], &piece, error)) {
                return false;
            }
            if (piece.wait_ns > 0) {
                *wait_ns = piece.wait_ns;
                return true;
            }
            p->granted[i] = piece.bytes;
        }
        may = MIN(may, p->granted[i]);
    }
    *bytes = may;
    return true;
}

bool
qmig_pacer_alters(const QmigPacer *p)
{
    return p->n_altering > 0;
}

bool
qmig_pacer_alter(QmigPacer *p, uint8_t *data, uint64_t bytes, GError **error)
{
    struct qmig_piece piece = next_piece(p, bytes);

    for (unsigned i = 0; i < p->n_altering; i++) {
        if (!qmig_instance_alter(p->altering[i], &piece, data, error)) {
            return false;
        }
    }
    return true;
}

void
qmig_pacer_wrote(QmigPacer *p, uint64_t bytes)
{
    for (unsigned i = 0; i < p->n_pacing; i++) {
        g_assert(p->granted[i] >= bytes);
        p->granted[i] -= bytes;
    }
    p->offset += bytes;
}
