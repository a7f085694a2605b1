"""The management API, in the shape of Azure Resource Manager.

A resource's id is its path; `PUT` creates or replaces, `PATCH` changes, lists are paged by
`nextLink`, errors are `{"error": {"code", "message"}}`, and every call names an `api-version`.
Everything is done when it is answered: `provisioningState` is `Succeeded` then, and the operations
that clients wait for (202) have succeeded. What is ours is in `docs/management-api.md`.

Source: Azure Resource Manager RPC, and the REST specification of Microsoft.DeviceRegistry.
"""
