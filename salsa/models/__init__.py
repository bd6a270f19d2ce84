"""Language models and scalar-head models: shapes, building, loading, saving."""
