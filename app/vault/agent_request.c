#include "app/vault/agent_request.h"

#include <string.h>

enum status agent_request_init(struct message_agent_request *request,
			       enum agent_operation operation, const char *key_url,
			       const char *client_id)
{
	*request = (struct message_agent_request){.operation = operation};
	if (strlen(key_url) >= sizeof(request->key_url) ||
	    strlen(client_id) >= sizeof(request->client_id))
		return FAIL_KEY_URL;
	strcpy(request->key_url, key_url);
	strcpy(request->client_id, client_id);
	return OK;
}

enum status agent_request_unwrap(struct message_agent_request *request,
				 const struct vault_wrapping *wrapping, const char *client_id)
{
	_Static_assert(sizeof(request->algorithm) >= sizeof(wrapping->algorithm) &&
			       sizeof(request->wrapped) >= sizeof(wrapping->wrapped),
		       "what a token says must fit");
	TRY(agent_request_init(request, AGENT_UNWRAP, wrapping->kid, client_id));
	strcpy(request->algorithm, wrapping->algorithm);
	strcpy(request->wrapped, wrapping->wrapped);
	return OK;
}
