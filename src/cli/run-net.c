// SPDX-License-Identifier: GPL-2.0-or-later
/* Network cards of `lodge run`. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/options.h"
#include "cli/run.h"
#include "host/passt.h"
#include "host/tap.h"

struct net_options {
	GPtrArray *forwards;
	char *mac;
};

static const struct option net_parts[] = {
	{"forward", OPTION_LIST, offsetof(struct net_options, forwards), "[tcp:|udp:]HOST:GUEST",
	 NULL},
	{"mac", OPTION_STRING, offsetof(struct net_options, mac), "ADDRESS", NULL},
	{NULL},
};

static bool parse_port(const char *text, uint16_t *port)
{
	guint64 number;
	if (!g_ascii_string_to_unsigned(text, 10, 1, 65535, &number, NULL))
		return false;
	*port = (uint16_t)number;
	return true;
}

static bool parse_forward(const char *text, struct passt_forward *forward, GError **error)
{
	const char *ports = text;
	forward->udp = g_str_has_prefix(text, "udp:");
	if (forward->udp || g_str_has_prefix(text, "tcp:"))
		ports += 4;
	g_auto(GStrv) numbers = g_strsplit(ports, ":", -1);
	if (g_strv_length(numbers) == 2 && parse_port(numbers[0], &forward->host_port) &&
	    parse_port(numbers[1], &forward->guest_port))
		return true;
	return error_set(error, LODGE_ERROR_INVALID,
			 "--net user,forward=%s is not HOST-PORT:GUEST-PORT, such as 2222:22 or "
			 "udp:5353:53",
			 text);
}

static int open_user(const struct net_options *net, GError **error)
{
	unsigned count = net->forwards ? net->forwards->len : 0;
	g_autofree struct passt_forward *forwards = g_new0(struct passt_forward, count + 1);
	for (unsigned i = 0; i < count; i++) {
		if (!parse_forward(net->forwards->pdata[i], &forwards[i], error))
			return -1;
	}
	return passt_start(forwards, count, error);
}

static int open_nic(const char *kind, const struct net_options *net, GError **error)
{
	g_autofree char *name = NULL;
	bool user = strcmp(kind, "user") == 0;
	if (net->forwards && !user) {
		error_set(error, LODGE_ERROR_INVALID,
			  "--net %s: forward belongs to the user network", kind);
		return -1;
	}
	if (user)
		return open_user(net, error);
	if (g_str_has_prefix(kind, "bridge=") && kind[strlen("bridge=")])
		return tap_open(NULL, kind + strlen("bridge="), &name, error);
	if (g_str_has_prefix(kind, "tap=") && kind[strlen("tap=")])
		return tap_open(kind + strlen("tap="), NULL, &name, error);
	error_set(error, LODGE_ERROR_INVALID, "--net '%s': say user, bridge=NAME, tap=NAME or none",
		  kind);
	return -1;
}

/* A locally administered address of the prefix that KVM guests have. */
static char *random_mac(void)
{
	guint32 n = g_random_int();
	return g_strdup_printf("52:54:00:%02x:%02x:%02x", n & 0xff, n >> 8 & 0xff, n >> 16 & 0xff);
}

static bool is_mac(const char *text)
{
	for (unsigned i = 0; i < 17; i++) {
		if (i % 3 == 2 ? text[i] != ':' : !g_ascii_isxdigit(text[i]))
			return false;
	}
	return text[17] == '\0' && g_ascii_xdigit_value(text[1]) % 2 == 0;
}

static bool add_nic(struct guest *guest, const char *kind, const struct net_options *net,
		    GError **error)
{
	GString *json = guest->json;
	if (net->mac && !is_mac(net->mac))
		return error_set(error, LODGE_ERROR_INVALID,
				 "--net mac=%s is no unicast address like 52:54:00:12:34:56",
				 net->mac);
	int fd = open_nic(kind, net, error);
	if (fd < 0)
		return false;
	g_autofree char *mac = net->mac ? g_strdup(net->mac) : random_mac();
	bool user = strcmp(kind, "user") == 0;
	if (json->str[json->len - 1] != '[')
		g_string_append_c(json, ',');
	g_string_append_c(json, '{');
	json_append_member_string(json, "backend", user ? "stream" : "tap");
	json_append_member_int(json, "fd", guest_give_fd(guest, fd));
	json_append_member_string(json, "mac", mac);
	g_string_append_c(json, '}');
	return true;
}

bool guest_add_nics(struct guest *guest, const GPtrArray *nets, GError **error)
{
	bool ok = true;
	json_append_key(guest->json, "nics");
	g_string_append_c(guest->json, '[');
	for (guint i = 0; ok && nets && i < nets->len; i++) {
		struct net_options net = {0};
		g_autofree char *kind = NULL;
		ok = options_parse_parts(net_parts, "--net", nets->pdata[i], &net, &kind, error) &&
		     (strcmp(kind, "none") == 0 || add_nic(guest, kind, &net, error));
		options_free(net_parts, &net);
	}
	g_string_append_c(guest->json, ']');
	return ok;
}
