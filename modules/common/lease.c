/* lease - see lease.h. */
#include "modules/common/lease.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define RENEW (2 * ESP_SEC)
#define SURE  (7 * ESP_SEC)      /* from before the beat was written */
#define LOST  (10 * ESP_SEC)     /* without a beat: the holder is gone, or has to ask first */
#define LOOK  (500 * ESP_MSEC)

static const char READ[] = "SELECT holder, generation, beat FROM lease WHERE name = $1";
static const char FIRST[] =
	"INSERT INTO lease (name, holder, generation, beat) VALUES ($1, $2, 1, 1) ON CONFLICT (name) DO NOTHING";
static const char TAKE[] =
	"UPDATE lease SET holder = $2, generation = generation + 1, beat = beat + 1"
	" WHERE name = $1 AND generation = $3 AND beat = $4 RETURNING generation, beat";
static const char RENEWED[] =
	"UPDATE lease SET beat = beat + 1 WHERE name = $1 AND holder = $2 AND generation = $3 RETURNING generation, beat";
static const char LEAVE[] = "UPDATE lease SET holder = '' WHERE name = $1 AND holder = $2 AND generation = $3";

/* --- who is this process, and does another one of this machine live? --------------------------------------- */

static void read_text(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);

	buf[n < 0 ? 0 : n] = '\0';
	if (fd >= 0)
		(void)close(fd);
}

/* Machine and name space of process ids. */
static void machine(char *buf, size_t size)
{
	char boot[64], space[64];
	ssize_t n = readlink("/proc/self/ns/pid", space, sizeof space - 1);

	space[n < 0 ? 0 : n] = '\0';
	read_text("/proc/sys/kernel/random/boot_id", boot, sizeof boot);
	snprintf(buf, size, "%.36s %s", boot, space);
}

/* When it started, in ticks since the machine did; 0: there is no such process, or only its exit code waits for a
 * parent that does not ask (the first process of a container, often). */
static unsigned long long started(long pid)
{
	char path[64], text[1024];
	const char *p;
	unsigned long long at = 0;

	snprintf(path, sizeof path, "/proc/%ld/stat", pid);
	read_text(path, text, sizeof text);
	p = strrchr(text, ')');
	if (p && p[1] == ' ' && (p[2] == 'Z' || p[2] == 'X'))
		return 0;
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	return p && sscanf(p, "%llu", &at) == 1 ? at : 0;
}

static int is_dead(esp_str holder)
{
	char here[112], text[160];
	unsigned long long start;
	long pid;

	machine(here, sizeof here);
	snprintf(text, sizeof text, "%.*s", ESP_FMT(holder));
	if (strncmp(text, here, strlen(here)) != 0 || sscanf(text + strlen(here), " %ld %llu", &pid, &start) != 2)
		return 0;
	return started(pid) != start;
}

void lease_init(struct lease *l, const esp_core *core, const char *name)
{
	char here[112];

	machine(here, sizeof here);
	*l = (struct lease){ .core = core, .name = name };
	snprintf(l->holder, sizeof l->holder, "%s %ld %llu", here, (long)getpid(), started(getpid()));
}

/* --- the row ----------------------------------------------------------------------------------------------- */

static esp_str cstr(const char *s) { return (esp_str){ s, strlen(s) }; }

struct attempt { struct lease *l; const char *stmt; int64_t generation, beat; uint32_t nargs, done; };

static esp_status attempt_tx(esp_tx *tx, void *arg)
{
	struct attempt *a = arg;
	esp_sql_value args[] = { ESP_SQL_T(cstr(a->l->name)), ESP_SQL_T(cstr(a->l->holder)), ESP_SQL_I(a->l->generation),
		ESP_SQL_I(a->l->beat) };
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, a->stmt, args, a->nargs, &rows);

	a->done = st == ESP_OK && rows.changed == 1;
	if (a->done && rows.nrows) {
		a->generation = esp_sql_at(&rows, 0, 0)->i;
		a->beat = esp_sql_at(&rows, 0, 1)->i;
	}
	return st;
}

static int attempt(struct lease *l, const esp_sql *sql, const char *stmt, uint32_t nargs)
{
	esp_nsec before = l->core->loop->clock();
	struct attempt a = { .l = l, .stmt = stmt, .nargs = nargs, .generation = 1, .beat = 1 };

	if (sql->transact(sql, NULL, 0, attempt_tx, &a) != ESP_OK)
		return 0;                  /* the database is away: what was sure stays so until its time */
	l->held = a.done != 0;
	if (!a.done)
		return 0;
	l->generation = a.generation;
	l->beat = a.beat;
	l->renew_at = before + RENEW;
	l->sure_until = before + SURE;
	return 1;
}

static int may_take(struct lease *l, const esp_sql_rows *rows, esp_nsec now)
{
	esp_str holder = esp_sql_at(rows, 0, 0)->s;
	int64_t generation = esp_sql_at(rows, 0, 1)->i, beat = esp_sql_at(rows, 0, 2)->i;

	if (l->seen_at == 0 || generation != l->generation || beat != l->beat)
		l->seen_at = now;
	l->generation = generation;
	l->beat = beat;
	return holder.len == 0 || now - l->seen_at >= LOST || is_dead(holder);
}

static int take(struct lease *l, const esp_sql *sql, esp_arena *arena, esp_nsec now)
{
	esp_sql_rows rows;

	if (now < l->look_at)
		return 0;
	l->look_at = now + LOOK;
	if (sql->query(sql, ESP_SQL_BOUNDED, arena, READ, (esp_sql_value[]){ ESP_SQL_T(cstr(l->name)) }, 1,
		&rows) != ESP_OK)
		return 0;
	if (rows.nrows == 0)
		return attempt(l, sql, FIRST, 2);
	return may_take(l, &rows, now) && attempt(l, sql, TAKE, 4);
}

int lease_hold(struct lease *l, const esp_sql *sql, esp_arena *arena)
{
	esp_nsec now = l->core->loop->clock();

	if (l->held && now >= l->renew_at && !attempt(l, sql, RENEWED, 3) && !l->held)
		l->sure_until = l->seen_at = 0;
	if (!l->held && !take(l, sql, arena, now))
		return 0;
	return lease_sure(l);
}

/* Also the lock between the one who records work and the one who takes over. */
esp_status lease_check(const struct lease *l, esp_tx *tx)
{
	esp_sql_rows rows;
	esp_status st = tx->exec(tx, RENEWED, (esp_sql_value[]){ ESP_SQL_T(cstr(l->name)), ESP_SQL_T(cstr(l->holder)),
		ESP_SQL_I(l->generation) }, 3, &rows);

	return st == ESP_OK && rows.nrows != 1 ? ESP_EBUSY : st;
}

void lease_release(struct lease *l, const esp_sql *sql)
{
	if (l->held)
		(void)attempt(l, sql, LEAVE, 3);
	l->held = 0;
	l->sure_until = l->look_at = 0;
}
