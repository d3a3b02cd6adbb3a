"""Several processes that train one model: launch, tasks from the main process, collectives and sharding."""
