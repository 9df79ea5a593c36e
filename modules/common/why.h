/* why - what a person is told of a status.  Whoever knows more (a path, a name) says it in front. */
#ifndef ESP_COMMON_WHY_H
#define ESP_COMMON_WHY_H

#include <esp/abi.h>

static inline const char *why(esp_status st)
{
	switch (st) {
	case ESP_EACCES: return "permission denied; the user the server runs as (server.user) must be allowed there";
	case ESP_ENOENT: return "it is not there";
	case ESP_EEXIST: return "it is there already";
	case ESP_EIO: return "reading or writing failed, see the kernel's log";
	case ESP_ENOSPC: return "the disk is full";
	case ESP_ENOMEM: return "no memory";
	case ESP_EBUSY: return "something is full or locked, try later";
	case ESP_EQUOTA: return "the account is over its quota";
	case ESP_E2BIG: return "it is larger than allowed";
	case ESP_ECORRUPT: return "it is damaged";
	case ESP_ECANCELED: return "it was interrupted";
	case ESP_ECLOSED: return "nobody waits for it any more";
	case ESP_ETIMEDOUT: return "it took too long";
	case ESP_EUNAVAIL: return "the storage is being replaced, or its database is away";
	case ESP_ECONFLICT: return "somebody else changed it meanwhile";
	case ESP_EPROTO: return "it is not what was expected";
	default: return "a fault in the program, see the log";
	}
}

#endif
