"""An independent recount of a pipeline from its topics."""
