-- The roles and the database of trustwatch, made by an administrator of the server:
--   psql -v password="$(cat /etc/trustwatch/secrets/database-password)" -f deploy/postgres/roles.sql
CREATE ROLE trustwatch_daemon LOGIN PASSWORD :'password';
CREATE ROLE trustwatch_analyst LOGIN;
CREATE DATABASE trustwatch;
