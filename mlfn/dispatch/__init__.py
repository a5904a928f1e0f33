"""From a call to a recorded end: submit, dispatch, retry, recover, shut down."""
