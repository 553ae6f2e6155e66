/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Members of JSON objects, their type checked before use. */
#ifndef QMIG_QMP_JSON_H
#define QMIG_QMP_JSON_H

#include "util/auto.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Each returns true and sets *@out when @object is a JSON object that has @key with a value
 * of that type; else false, with *@out untouched. @object may be NULL or of any type. Strings,
 * objects and arrays are borrowed from @object.
 */
bool qmig_json_get_object(JsonObject *object, const char *key, JsonObject **out);
bool qmig_json_get_array(JsonObject *object, const char *key, JsonObject **out);
bool qmig_json_get_string(JsonObject *object, const char *key, const char **out);
bool qmig_json_get_bool(JsonObject *object, const char *key, bool *out);
bool qmig_json_get_int(JsonObject *object, const char *key, int64_t *out);
/* A negative number is no uint. */
bool qmig_json_get_uint(JsonObject *object, const char *key, uint64_t *out);
/* Also takes an integer. */
bool qmig_json_get_double(JsonObject *object, const char *key, double *out);

/* The text of a JSON string, borrowed; NULL when @value is none. */
const char *qmig_json_text(JsonObject *value);

/* Add a member; a NULL @value of add_string adds nothing. */
void qmig_json_add_string(JsonObject *object, const char *key, const char *value);
void qmig_json_add_bool(JsonObject *object, const char *key, bool value);
void qmig_json_add_int(JsonObject *object, const char *key, int64_t value);

/* {"@key": "@value"}; (transfer full) */
JsonObject *qmig_json_new_with_string(const char *key, const char *value);

#endif
