/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Certificates and keys for tests of TLS: the right ones, and each kind of wrong ones. */
#ifndef QMIG_TESTS_PKI_H
#define QMIG_TESTS_PKI_H

#include "proxy/tls.h"
#include "util/pki.h"

/* Common name of servers and clients, and a server's first host; proxy.example is its other. */
#define TEST_PKI_HOST "b.example"

/* Directories as tls-creds-x509 and tls-creds-psk want them. */
typedef struct {
    char *dir;   /* of them all, and of what else a test needs: files, no folders */
    char *good;  /* CA, server, client */
    char *other; /* the same of another CA */
    char *bare;  /* of the good CA, with no certificate of a client */
    char *psk, *psk_other; /* pre-shared keys of user "qemu", which differ */
} TestPki;

/* Once for all tests: keys cost time. */
void test_pki_make(TestPki *pki);
/* With all files in them. */
void test_pki_remove(TestPki *pki);

/* What an end shows that has one of these directories. */
QmigTlsCreds *test_pki_creds(const char *dir, QmigPkiKind end);

#endif
