-- The tables of the resources. `forgecore migrate diff` compares the database with them.

CREATE TABLE categories (
    id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    parent_id uuid,
    deleted_at timestamptz,
    CONSTRAINT categories_pkey PRIMARY KEY (id),
    CONSTRAINT categories_tenant_id_id_key UNIQUE (tenant_id, id),
    CONSTRAINT categories_name_check CHECK (char_length(name) <= 80)
);
CREATE UNIQUE INDEX categories_name_key ON categories (tenant_id, name) WHERE deleted_at IS NULL;
CREATE INDEX categories_tenant_id_name_idx ON categories (tenant_id, name, id) WHERE deleted_at IS NULL;
CREATE INDEX categories_parent_id_idx ON categories (parent_id);

CREATE TABLE currencies (
    id uuid NOT NULL,
    code text NOT NULL,
    symbol text,
    CONSTRAINT currencies_pkey PRIMARY KEY (id),
    CONSTRAINT currencies_code_check CHECK (char_length(code) >= 3 AND char_length(code) <= 3)
);
CREATE UNIQUE INDEX currencies_code_key ON currencies (code);

CREATE TABLE order_items (
    id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    quantity integer NOT NULL,
    unit_price numeric(10, 2) NOT NULL,
    product_id uuid NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT order_items_pkey PRIMARY KEY (id),
    CONSTRAINT order_items_tenant_id_id_key UNIQUE (tenant_id, id),
    CONSTRAINT order_items_quantity_check CHECK (quantity >= 1)
);
CREATE INDEX order_items_tenant_id_created_at_idx ON order_items (tenant_id, created_at, id);
CREATE INDEX order_items_product_id_idx ON order_items (product_id);

CREATE TABLE products (
    id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    title text NOT NULL,
    price numeric(10, 2) NOT NULL,
    status text DEFAULT 'draft' NOT NULL,
    sku text NOT NULL,
    category_id uuid,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    deleted_at timestamptz,
    CONSTRAINT products_pkey PRIMARY KEY (id),
    CONSTRAINT products_tenant_id_id_key UNIQUE (tenant_id, id),
    CONSTRAINT products_title_check CHECK (char_length(title) <= 200),
    CONSTRAINT products_price_check CHECK (price >= 0),
    CONSTRAINT products_status_check CHECK (status IN ('draft', 'active', 'archived'))
);
CREATE UNIQUE INDEX products_sku_key ON products (tenant_id, sku) WHERE deleted_at IS NULL;
CREATE INDEX products_tenant_id_title_idx ON products (tenant_id, title, id) WHERE deleted_at IS NULL;
CREATE INDEX products_tenant_id_price_idx ON products (tenant_id, price, id) WHERE deleted_at IS NULL;
CREATE INDEX products_tenant_id_created_at_idx ON products (tenant_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX products_category_id_idx ON products (category_id);

ALTER TABLE categories ADD CONSTRAINT categories_parent_id_fkey
    FOREIGN KEY (tenant_id, parent_id) REFERENCES categories (tenant_id, id);

ALTER TABLE order_items ADD CONSTRAINT order_items_product_id_fkey
    FOREIGN KEY (tenant_id, product_id) REFERENCES products (tenant_id, id);

ALTER TABLE products ADD CONSTRAINT products_category_id_fkey
    FOREIGN KEY (tenant_id, category_id) REFERENCES categories (tenant_id, id) ON DELETE SET NULL (category_id);
