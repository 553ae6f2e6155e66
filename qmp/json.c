/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading replies whose members may be absent or of another type. */
#include "qmp/client.h"

#include <math.h>

JsonObject *
qmig_json_get(JsonObject *object, const char *key, enum json_type type)
{
    JsonObject *member;

    return json_object_is_type(object, json_type_object) &&
                   json_object_object_get_ex(object, key, &member) &&
                   json_object_is_type(member, type)
               ? member
               : NULL;
}

int64_t
qmig_json_int(JsonObject *object, const char *key, int64_t fallback)
{
    JsonObject *member = qmig_json_get(object, key, json_type_int);

    return member != NULL ? json_object_get_int64(member) : fallback;
}

double
qmig_json_double(JsonObject *object, const char *key, double fallback)
{
    JsonObject *real = qmig_json_get(object, key, json_type_double);
    JsonObject *whole = qmig_json_get(object, key, json_type_int);

    if (whole != NULL) {
        return (double)json_object_get_int64(whole);
    }
    /* json-c reads NaN and Infinity, which JSON does not have. */
    return real != NULL && isfinite(json_object_get_double(real))
               ? json_object_get_double(real)
               : fallback;
}

bool
qmig_json_bool(JsonObject *object, const char *key, bool fallback)
{
    JsonObject *member = qmig_json_get(object, key, json_type_boolean);

    return member != NULL ? json_object_get_boolean(member) : fallback;
}

const char *
qmig_json_string(JsonObject *object, const char *key)
{
    JsonObject *member = qmig_json_get(object, key, json_type_string);

    return member != NULL ? json_object_get_string(member) : NULL;
}
