"""The management API, in the shape of Azure Resource Manager.

A resource's id is its path; `PUT` creates or replaces, `PATCH` changes, lists are paged by
`nextLink`, errors are `{"error": {"code", "message"}}`, and every call names an `api-version`. What
takes no time is done when it is answered: `provisioningState` is `Succeeded` then, and clients that
poll for long-running operations stop at once.

Source: Azure Resource Manager RPC, and the REST specification of Microsoft.DeviceRegistry.
"""
