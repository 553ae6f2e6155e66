/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which capabilities and parameters go together: the one table of it, and its check. */
#ifndef QMIG_QMP_RULES_H
#define QMIG_QMP_RULES_H

#include "qmp/knobs.h"

typedef enum {
    QMIG_RULE_EXCLUDES, /* the two together are refused */
    QMIG_RULE_NEEDS,    /* the first without the second is refused */
    QMIG_RULE_IDLE,     /* without the second the first does nothing: that is told */
} QmigRuleKind;

/*
 * @first and @second: a capability; a parameter (it is set, and not "none", "off" or ""); or
 * "PARAMETER=WORD".
 */
typedef struct {
    const char *first;
    QmigRuleKind kind;
    const char *second;
    const char *since;   /* first QEMU it holds in; NULL = all */
    const char *removed; /* first QEMU it does not hold in any more; NULL = none known */
    const char *why;     /* why QEMU wants it so; no full stop */
} QmigRule;

/* All rows. Static. */
const QmigRule *qmig_rules(size_t *n);

/* A rule is broken. @is_fatal: QEMU would refuse it, or do something else than asked. */
typedef void (*QmigRuleTell)(void *data, bool is_fatal, const char *text);

/**
 * qmig_rules_check() - do these settings of one QEMU go together?
 * @capabilities: {name: true}
 * @parameters:   {name: value}; or a text where it has not been understood yet
 * @present:      (nullable) parameters as they are, where none is asked for
 * @asked_by:     {name: "--option"}: who asked, for the messages
 * @version:      as qmig_qmp_version() tells; 0 = not known: only what holds for every QEMU
 */
void qmig_rules_check(JsonObject *capabilities, JsonObject *parameters,
                      JsonObject *present, JsonObject *asked_by, unsigned version,
                      QmigRuleTell tell, void *data);

#endif
