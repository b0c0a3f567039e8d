CREATE TABLE tickets (
    id serial PRIMARY KEY,
    title text NOT NULL,
    opened timestamptz NOT NULL DEFAULT now()
);
