/* rows - what libpq returns as esp.sql/1 knows it.  Results are binary; all code here is pure. */
#include "pgsql.h"

#include <endian.h>
#include <stdlib.h>

enum { /* type OIDs of PostgreSQL's pg_type.dat; constants of the protocol */
	OID_BOOL = 16, OID_NAME = 19, OID_INT2 = 21, OID_INT4 = 23,
	OID_FLOAT8 = 701, OID_UNKNOWN = 705, OID_VARCHAR = 1043, OID_NUMERIC = 1700
};

/* First two or five characters of SQLSTATE; the first row that fits stands. */
static const struct { const char *state; esp_status status; } states[] = {
	{ "23505", ESP_EEXIST },
	{ "40", ESP_ECONFLICT }, { "55P03", ESP_ECONFLICT },
	{ "0A000", ESP_EUNAVAIL }, { "26000", ESP_EUNAVAIL },   /* a prepared statement that is void: connect anew */
	{ "53100", ESP_ENOSPC }, { "53", ESP_EBUSY }, { "57014", ESP_EBUSY },
	{ "08", ESP_EUNAVAIL }, { "57", ESP_EUNAVAIL }, { "25006", ESP_EUNAVAIL }, { "25P03", ESP_EUNAVAIL },
	{ "28", ESP_EUNAVAIL }, { "3D", ESP_EUNAVAIL }, { "58", ESP_EIO }, { "XX001", ESP_ECORRUPT },
	{ "XX002", ESP_ECORRUPT }, { "54", ESP_E2BIG },
};

esp_status result_status(const PGresult *res)
{
	const char *state;

	if (!res)
		return ESP_EUNAVAIL;
	switch (PQresultStatus(res)) {
	case PGRES_COMMAND_OK: case PGRES_TUPLES_OK: case PGRES_PIPELINE_SYNC: return ESP_OK;
	case PGRES_PIPELINE_ABORTED: return ESP_ECONFLICT;   /* of no fault of its own */
	default: break;
	}
	state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	if (!state)
		return ESP_EUNAVAIL;                             /* libpq's own error: the connection is gone */
	for (size_t i = 0; i < sizeof states / sizeof states[0]; i++)
		if (strncmp(state, states[i].state, strlen(states[i].state)) == 0)
			return states[i].status;
	return ESP_EINVAL;
}

int result_is_read(const PGresult *res)
{
	return strncmp(PQcmdStatus((PGresult *)(uintptr_t)res), "SELECT", 6) == 0;
}

uint32_t result_changed(PGresult *res)
{
	return result_is_read(res) ? 0 : (uint32_t)strtoul(PQcmdTuples(res), NULL, 10);
}

static int64_t be(const char *p, int len)
{
	uint64_t v = len > 0 && *p & 0x80 ? UINT64_MAX : 0;

	for (int i = 0; i < len; i++)
		v = v << 8 | (uint8_t)p[i];
	return (int64_t)v;
}

/* Whole part of a numeric (a SUM of BIGINT): count of digits, weight, sign, scale, then digits of base 10,000. */
static int64_t numeric(const char *p, int len)
{
	int n = (int)be(p, 2), weight = (int)be(p + 2, 2);
	uint64_t v = 0;

	for (int i = 0; i <= weight && weight < 5; i++)
		v = v * 10000 + (i < n && 10 + 2 * i <= len ? (uint64_t)be(p + 8 + 2 * i, 2) : 0);
	return be(p + 4, 2) == 0x4000 ? -(int64_t)v : (int64_t)v;
}

static int64_t float8(const char *p)
{
	uint64_t bits = (uint64_t)be(p, 8);
	double d;

	memcpy(&d, &bits, sizeof d);
	return d > -9e18 && d < 9e18 ? (int64_t)d : 0;
}

static esp_status cell(const PGresult *res, int row, int col, esp_arena *arena, int copy, esp_sql_value *v)
{
	const char *p = PQgetvalue(res, row, col);
	int len = PQgetlength(res, row, col);

	v->type = ESP_SQL_INT;
	switch (PQftype(res, col)) {
	case OID_INT8: case OID_INT4: case OID_INT2: v->i = be(p, len); return ESP_OK;
	case OID_BOOL: v->i = len > 0 && *p; return ESP_OK;
	case OID_NUMERIC: v->i = len >= 8 ? numeric(p, len) : 0; return ESP_OK;
	case OID_FLOAT8: v->i = len == 8 ? float8(p) : 0; return ESP_OK;
	case OID_BYTEA: v->type = ESP_SQL_BLOB; break;
	case OID_TEXT: case OID_VARCHAR: case OID_NAME: case OID_UNKNOWN: v->type = ESP_SQL_TEXT; break;
	default: return ESP_EINVAL;
	}
	v->s = (esp_str){ p, (size_t)len };
	if (copy)
		v->s = esp_strdup_in(arena, v->s);
	return v->s.ptr ? ESP_OK : ESP_ENOMEM;
}

esp_status result_rows(const PGresult *res, esp_arena *arena, int copy, esp_sql_rows *ret)
{
	int nrows = PQntuples(res), ncols = PQnfields(res);
	size_t bytes = PQresultMemorySize(res);
	esp_sql_value *values;
	esp_status st = ESP_OK;

	if ((uint32_t)nrows > ROWS_MAX || bytes > BYTES_MAX)
		return ESP_E2BIG;
	values = esp_alloc_array(arena, (size_t)nrows * (size_t)ncols + 1, sizeof *values);
	if (!values)
		return ESP_ENOMEM;
	for (int r = 0; st == ESP_OK && r < nrows; r++)
		for (int c = 0; st == ESP_OK && c < ncols; c++)
			if (!PQgetisnull(res, r, c))
				st = cell(res, r, c, arena, copy, &values[(size_t)r * (size_t)ncols + (size_t)c]);
	*ret = (esp_sql_rows){ .size = sizeof *ret, .ncols = (uint32_t)ncols, .nrows = (uint32_t)nrows, .values = values,
		.changed = result_changed((PGresult *)(uintptr_t)res) };
	return st;
}
