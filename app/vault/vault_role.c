#include "app/vault/vault_role.h"

#include "app/vault/vault_agent.h"
#include "generated/ca_bundle.h"
#include "platform/lockdown.h"
#include "platform/process.h"

enum status vault_role_run(const char *user)
{
	static struct message_agent_configure configure;
	static struct vault_agent agent;
	enum status status;

	TRY(message_receive(PROCESS_SOCKET_FD, &configure.header, sizeof(configure)));
	if (configure.header.type != MESSAGE_AGENT_CONFIGURE)
		return FAIL_MESSAGE;
	TRY(vault_agent_prepare(&agent, &configure, CA_BUNDLE, sizeof(CA_BUNDLE)));
	status = lockdown_network_role(user,
				       agent.token_folder[0] != '\0' ? agent.token_folder : NULL);
	if (status == OK)
		status = vault_agent_serve(&agent, PROCESS_SOCKET_FD);
	vault_agent_close(&agent);
	return status;
}
