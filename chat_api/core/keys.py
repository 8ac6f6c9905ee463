"""How statements name the rows of a source and of a generation: by the whole key."""

OF_SOURCE = "org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id"
OF_GENERATION = f"{OF_SOURCE} AND generation = :generation"
